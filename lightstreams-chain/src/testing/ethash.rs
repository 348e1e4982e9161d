use std::cmp::Ordering;

use alloy_consensus::Header;
use alloy_genesis::ChainConfig;
use alloy_primitives::{Address, B64, B256, U256};

use super::NoSeal;
use crate::{
    Ancestry, EngineError, ForkChoice, Genesis, HeadInfo, HeaderRules, Permits,
    rules::{Forks, Rules},
};

/// Bytes of extra data at most.
const EXTRA_MAX: usize = 32;
/// The least difficulty there is.
const DIFFICULTY_MIN: u64 = 131_072;
/// The difficulty of a block moves by this part of its parent's.
const DIFFICULTY_BOUND: u64 = 2_048;
/// The bomb doubles every so many blocks.
const BOMB_PERIOD: u64 = 100_000;
/// What the blocks after the DAO fork say of themselves, and how many (EIP-779).
const DAO_EXTRA: &[u8] = b"dao-hard-fork";
const DAO_EXTRA_BLOCKS: u64 = 10;
/// Parts of an ether.
const ETHER: u128 = 1_000_000_000_000_000_000;

/// Ethereum as it was and is, for tests: proof of work without its seals until the terminal total difficulty, and
/// from there on what a beacon chain would drive.
///
/// Before the merge the heavier chain wins (equal ones are told apart as under [`NoSeal`]); after it the block imported last
/// is the head, as if a consensus client had said so. Nothing is final.
#[derive(Clone, Debug)]
pub struct Ethash {
    rules: Rules,
    config: ChainConfig,
    difficulty: Option<U256>,
}

impl Ethash {
    /// The rules of `genesis`.
    pub fn for_genesis(genesis: &Genesis) -> Self {
        Self {
            rules: Rules::new(genesis, Permits::ALL),
            config: genesis.file().config.clone(),
            difficulty: None,
        }
    }

    /// The same, with one difficulty for all blocks before the merge, as Besu's `fixedDifficulty` has it.
    #[must_use]
    pub fn with_difficulty(mut self, difficulty: U256) -> Self {
        self.difficulty = Some(difficulty);
        self
    }

    /// The difficulty of block `number` at `time` (Unix seconds) after `parent`, before the merge: EIP-2, EIP-100, and the bomb
    /// with the delays of EIP-649, 1234, 2384, 3554, 4345 and 5133.
    pub fn difficulty(&self, number: u64, time: u64, parent: &Header) -> U256 {
        if let Some(fixed) = self.difficulty {
            return fixed;
        }
        let forks = self.rules.forks(number, time, U256::ZERO);
        let elapsed = time.saturating_sub(parent.timestamp);
        let step = parent.difficulty / U256::from(DIFFICULTY_BOUND);
        // How many steps up, or down.
        let (up, down) = if forks.byzantium {
            let base = if parent.ommers_hash == alloy_consensus::EMPTY_OMMER_ROOT_HASH { 1 } else { 2 };
            balance(base, elapsed / 9)
        } else if forks.homestead {
            balance(1, elapsed / 10)
        } else if elapsed < 13 {
            (1, 0)
        } else {
            (0, 1)
        };
        let moved = parent
            .difficulty
            .saturating_add(step.saturating_mul(U256::from(up)))
            .saturating_sub(step.saturating_mul(U256::from(down)))
            .max(U256::from(DIFFICULTY_MIN));
        let periods = number.saturating_sub(self.bomb_delay(number)) / BOMB_PERIOD;
        let with_bomb = match periods.checked_sub(2) {
            Some(exponent) => {
                moved.saturating_add(U256::ONE.checked_shl(exponent as usize).unwrap_or(U256::MAX))
            }
            None => moved,
        };
        with_bomb.max(U256::from(DIFFICULTY_MIN))
    }

    /// By how many blocks the bomb is set back in block `number`.
    fn bomb_delay(&self, number: u64) -> u64 {
        let config = &self.config;
        let delays = [
            (config.gray_glacier_block, 11_400_000),
            (config.arrow_glacier_block, 10_700_000),
            (config.london_block, 9_700_000),
            (config.muir_glacier_block, 9_000_000),
            (config.constantinople_block, 5_000_000),
            (config.byzantium_block, 3_000_000),
        ];
        let active = delays.into_iter().find(|(at, _)| at.is_some_and(|at| at <= number));
        active.map_or(0, |(_, delay)| delay)
    }

    fn verify_work(&self, header: &Header, parent: &Header) -> Result<(), EngineError> {
        if header.difficulty != self.difficulty(header.number, header.timestamp, parent) {
            return Err(EngineError::invalid("difficulty", "is not what follows from the parent"));
        }
        let since_dao = self.config.dao_fork_block.filter(|_| self.config.dao_fork_support);
        let since_dao = since_dao.and_then(|block| header.number.checked_sub(block));
        if since_dao.is_some_and(|blocks| blocks < DAO_EXTRA_BLOCKS) && header.extra_data[..] != *DAO_EXTRA {
            return Err(EngineError::invalid("extraData", "does not name the DAO fork"));
        }
        Ok(())
    }

    fn forks(&self, header: &Header, parent: &HeadInfo) -> Forks {
        self.rules.forks_of(header, parent)
    }
}

/// `base - periods`, at least -99, as steps up and steps down.
fn balance(base: u64, periods: u64) -> (u64, u64) {
    match base.checked_sub(periods) {
        Some(up) => (up, 0),
        None => (0, periods.saturating_sub(base).min(99)),
    }
}

fn is_merged(header: &Header) -> bool {
    header.number > 0 && header.difficulty.is_zero()
}

impl HeaderRules for Ethash {
    fn verify_genesis(&self, _: &Header) -> Result<(), EngineError> {
        Ok(())
    }

    fn verify_header(
        &self,
        header: &Header,
        parent: &HeadInfo,
        _: &dyn Ancestry,
        _: u64,
    ) -> Result<(), EngineError> {
        if header.extra_data.len() > EXTRA_MAX {
            return Err(EngineError::invalid("extraData", "is longer than 32 bytes"));
        }
        if header.timestamp <= parent.header.timestamp {
            return Err(EngineError::invalid("timestamp", "is not after the parent's"));
        }
        if !self.forks(header, parent).paris {
            return self.verify_work(header, &parent.header);
        }
        // EIP-3675
        if !header.difficulty.is_zero() {
            return Err(EngineError::invalid("difficulty", "is not zero after the merge"));
        }
        if header.nonce != B64::ZERO {
            return Err(EngineError::invalid("nonce", "is not zero after the merge"));
        }
        Ok(())
    }

    fn author(&self, header: &Header) -> Result<Address, EngineError> {
        Ok(header.beneficiary)
    }

    fn seal_hash(&self, header: &Header) -> B256 {
        header.hash_slow()
    }

    /// As a beacon chain that has nothing to say would: its root and its randomness are the parent's hash.
    fn prepare(
        &self,
        header: &mut Header,
        parent: &HeadInfo,
        author: Address,
        _: &dyn Ancestry,
        now: u64,
    ) -> Result<(), EngineError> {
        header.beneficiary = author;
        header.timestamp = parent.header.timestamp.saturating_add(1).max(now);
        header.mix_hash = parent.hash;
        header.parent_beacon_block_root = Some(parent.hash);
        header.difficulty = match self.forks(header, parent).paris {
            true => U256::ZERO,
            false => self.difficulty(header.number, header.timestamp, &parent.header),
        };
        Ok(())
    }

    fn permits(&self) -> Permits {
        Permits::ALL
    }

    /// 5, 3 (EIP-649) and 2 (EIP-1234) ether, a 32nd more for each ommer, and to its author an eighth less for each
    /// generation.
    fn rewards(&self, header: &Header, ommers: &[Header]) -> Vec<(Address, U256)> {
        if is_merged(header) {
            return Vec::new();
        }
        let at = |block: Option<u64>| block.is_some_and(|block| block <= header.number);
        let coins = match () {
            () if at(self.config.constantinople_block) => 2,
            () if at(self.config.byzantium_block) => 3,
            () => 5,
        };
        let reward = U256::from(ETHER * coins);
        let own = reward.saturating_add(reward / U256::from(32) * U256::from(ommers.len()));
        let shares = ommers.iter().map(|ommer| {
            let eighths = ommer.number.saturating_add(8).saturating_sub(header.number);
            (ommer.beneficiary, reward * U256::from(eighths) / U256::from(8))
        });
        shares.chain([(header.beneficiary, own)]).collect()
    }
}

impl ForkChoice for Ethash {
    fn compare(&self, a: &HeadInfo, b: &HeadInfo, ancestry: &dyn Ancestry) -> Result<Ordering, EngineError> {
        match (is_merged(&a.header), is_merged(&b.header)) {
            (true, _) if a.hash != b.hash => Ok(Ordering::Greater),
            (false, true) => Ok(Ordering::Less),
            _ => NoSeal::default().compare(a, b, ancestry),
        }
    }

    fn final_number(&self, _: &HeadInfo, last_final: u64, _: &dyn Ancestry) -> Result<u64, EngineError> {
        Ok(last_final)
    }
}
