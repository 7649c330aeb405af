//! Whether an error was fair: the engine may fail when the world gave it a reason, and in the way it documents.
//!
//! | kind | fair when |
//! |---|---|
//! | `Fenced` | a version with a newer epoch has landed |
//! | `Corruption`, `Unsupported` | a body of this machine's was spoiled, and the process began before faults ended |
//! | `Invalid` | this machine's credentials were refused, and the same; or the database is just being created |
//! | `Unavailable`, `OutcomeUnknown`, `Closed` | the process began before faults ended |
//! | `Conflict`, `SnapshotExpired` | always |

use esker::{Error, ErrorKind};

use super::process::Process;

/// Nobody looks for a database longer than this.
const CREATION_MS: u64 = 120_000;

/// Fails the run if `error` was not fair; `epoch` is the writer's whose error it is.
pub(crate) fn judge(process: &Process, epoch: Option<u32>, error: &Error, doing: &str) {
    let (world, node) = (&process.world, process.life.node);
    let fair = {
        let state = world.state();
        let healed = process.healed;
        match error.kind() {
            ErrorKind::Fenced => {
                let newest = state.latest.as_ref().map_or(0, |root| root.writer.epoch);
                epoch.is_none_or(|epoch| newest > epoch)
            }
            ErrorKind::Corruption => state.spoiled.contains_key(&node.index) && !healed,
            ErrorKind::Invalid => {
                // There is none yet, or was not when it was looked for.
                let just_created = state.created_ms.is_none_or(|ms| world.now_ms() < ms + CREATION_MS);
                just_created || state.forbidden.contains(&node.index) && !healed
            }
            // Whoever creates the database refuses a store that sends wrong bodies, too.
            ErrorKind::Unsupported => state.spoiled.contains_key(&node.index) && !healed,
            ErrorKind::Unavailable | ErrorKind::OutcomeUnknown | ErrorKind::Closed => !healed,
            ErrorKind::Conflict | ErrorKind::SnapshotExpired => true,
            _ => false,
        }
    };
    if fair {
        world.note(Some(node), format!("{doing}: {}: {error}", error.kind().as_str()));
    } else {
        let rule = "a call fails only with cause";
        world.fail(rule, format!("{node} at {doing}: {}: {error}", error.kind().as_str()));
    }
}
