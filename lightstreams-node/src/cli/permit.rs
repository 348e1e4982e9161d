//! `grant` and `revoke`.

use lightstreams_acl::{ContentRegistry, Permission, Term};
use serde_json::json;

use super::{
    args::{GrantArgs, LevelArg, RevokeArgs},
    session::Session,
};
use crate::{adapters::now_s, error::Result};

/// Runs `grant`.
pub(super) async fn grant(session: &Session, arguments: &GrantArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let level = match arguments.level {
        LevelArg::Read => Permission::Read,
        LevelArg::Write => Permission::Write,
        LevelArg::Admin => Permission::Admin,
    };
    let expires = arguments.lasting.map_or(0, |lasting| now_s().saturating_add(lasting));
    let term = Term { not_before: 0, expires, from_epoch: arguments.from_epoch };
    let wallet = session.wallet()?;
    let call = ContentRegistry::at(uri.registry).grant(uri.content, arguments.who, level, term);
    let sent = session.send(&wallet, "grant", call).await?;
    session.finality(sent.block).await?;
    session.out().result(
        &[format!("{} may {level}; transaction {} in block {}, final", arguments.who, sent.hash, sent.block)],
        &json!({
            "who": arguments.who,
            "level": level.to_string(),
            "expires": expires,
            "transaction": sent.hash,
            "block": sent.block,
        }),
    )
}

/// Runs `revoke`.
pub(super) async fn revoke(session: &Session, arguments: &RevokeArgs) -> Result<()> {
    let status = session.status().await?;
    let uri = session.content(&arguments.content, &status)?;
    let wallet = session.wallet()?;
    let call = ContentRegistry::at(uri.registry).revoke(uri.content, arguments.who);
    let sent = session.send(&wallet, "revoke", call).await?;
    let still = session.call(ContentRegistry::at(uri.registry).level_of(uri.content, arguments.who)).await?;
    let mut lines = vec![
        format!(
            "what people granted {} is over; transaction {} in block {}",
            arguments.who, sent.hash, sent.block
        ),
        "  from here on no custodian releases and no node serves; what was opened before stays opened"
            .to_owned(),
    ];
    if still > 0 {
        lines.push(
            "  the account can still read: by what it paid for, a public flag, a gate or a collection"
                .to_owned(),
        );
    }
    session.out().result(
        &lines,
        &json!({ "who": arguments.who, "level_left": still, "transaction": sent.hash, "block": sent.block }),
    )
}
