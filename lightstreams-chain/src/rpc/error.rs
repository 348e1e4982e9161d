//! go-ethereum's error codes and words.

use alloy_primitives::{Bytes, U256};
use jsonrpsee::types::{ErrorObjectOwned, error::INTERNAL_ERROR_CODE, error::INVALID_PARAMS_CODE};

use crate::{CallError, CallOutcome, EngineError, KvError, LogsError, StateError, SubmitError};

/// What go-ethereum answers with when it says nothing else.
const SERVER_ERROR: i32 = -32_000;
/// A query that would cost too much.
const LIMIT_EXCEEDED: i32 = -32_005;
/// A call that reverted; the data of the revert is the error's data.
const REVERTED: i32 = 3;

pub(super) fn server(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(SERVER_ERROR, message, None::<()>)
}

pub(super) fn invalid(message: impl Into<String>) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INVALID_PARAMS_CODE, message, None::<()>)
}

pub(super) fn unknown_block() -> ErrorObjectOwned {
    server("header not found")
}

/// Our own storage failed: the cause is for the log of the node, not for the caller.
pub(super) fn storage(_: KvError) -> ErrorObjectOwned {
    ErrorObjectOwned::owned(INTERNAL_ERROR_CODE, "chain storage failed", None::<()>)
}

pub(super) fn state(error: StateError) -> ErrorObjectOwned {
    match error {
        StateError::UnknownBlock => unknown_block(),
        StateError::Storage(error) => storage(error),
        other => server(other.to_string()),
    }
}

pub(super) fn engine(error: EngineError) -> ErrorObjectOwned {
    match error {
        EngineError::Storage(error) => storage(error),
        other => server(other.to_string()),
    }
}

pub(super) fn submit(error: SubmitError) -> ErrorObjectOwned {
    match error {
        SubmitError::Storage(error) => storage(error),
        other => server(other.to_string()),
    }
}

pub(super) fn logs(error: LogsError) -> ErrorObjectOwned {
    match error {
        LogsError::UnknownBlock => server("unknown block"),
        LogsError::Range { .. } => invalid("invalid block range params"),
        LogsError::TooManyBlocks { .. } | LogsError::TooManyLogs { .. } => {
            ErrorObjectOwned::owned(LIMIT_EXCEEDED, error.to_string(), None::<()>)
        }
        LogsError::Storage(error) => storage(error),
    }
}

pub(super) fn call(error: CallError) -> ErrorObjectOwned {
    match error {
        CallError::State(error) => state(error),
        // Libraries look for go-ethereum's words.
        CallError::Refused(reason) if reason.starts_with("lack of funds") => {
            server(format!("insufficient funds for gas * price + value: {reason}"))
        }
        CallError::Refused(reason) => server(reason),
        CallError::Fails(outcome) => failed(&outcome),
    }
}

/// The error of a call that ran and did not succeed.
pub(super) fn failed(outcome: &CallOutcome) -> ErrorObjectOwned {
    match outcome {
        CallOutcome::Revert { output, .. } => reverted(output),
        CallOutcome::Halt { reason, .. } => server(reason.clone()),
        CallOutcome::Success { .. } => server("execution failed"),
    }
}

fn reverted(output: &Bytes) -> ErrorObjectOwned {
    let message = match revert_reason(output) {
        Some(reason) => format!("execution reverted: {reason}"),
        None => "execution reverted".to_owned(),
    };
    ErrorObjectOwned::owned(REVERTED, message, Some(output.to_string()))
}

/// What Solidity's `Error(string)` or `Panic(uint256)` says.
fn revert_reason(output: &[u8]) -> Option<String> {
    let (selector, data) = output.split_first_chunk::<4>()?;
    match selector {
        [0x08, 0xc3, 0x79, 0xa0] => {
            let (offset, _) = data.split_first_chunk::<32>()?;
            let offset = usize::try_from(U256::from_be_bytes(*offset)).ok()?;
            let (length, text) = data.get(offset..)?.split_first_chunk::<32>()?;
            let length = usize::try_from(U256::from_be_bytes(*length)).ok()?;
            Some(String::from_utf8_lossy(text.get(..length)?).into_owned())
        }
        [0x4e, 0x48, 0x7b, 0x71] => {
            let (code, _) = data.split_first_chunk::<32>()?;
            let code = U256::from_be_bytes(*code);
            let known = u8::try_from(code).ok().and_then(panic_reason);
            Some(known.map_or_else(|| format!("unknown panic code: {code:#x}"), str::to_owned))
        }
        _ => None,
    }
}

fn panic_reason(code: u8) -> Option<&'static str> {
    Some(match code {
        0x00 => "generic panic",
        0x01 => "assert(false)",
        0x11 => "arithmetic underflow or overflow",
        0x12 => "division or modulo by zero",
        0x21 => "enum overflow",
        0x22 => "invalid encoded storage byte array accessed",
        0x31 => "out-of-bounds array access; popping on an empty array",
        0x32 => "out-of-bounds access of an array or bytesN",
        0x41 => "out of memory",
        0x51 => "uninitialized function",
        _ => return None,
    })
}
