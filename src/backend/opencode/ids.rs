//! Names for our messages that opencode sorts rightly and that we find again. Pure: the time comes in.
//!
//! opencode sorts the messages of a conversation by id, and an id begins with the time: `msg_` + 12 hex digits of
//! (milliseconds · 4096 + counter) mod 2^48 + 14 base62 digits. Ours have the same prefix, with counter 0 (it sorts
//! before what the server makes in the same millisecond), and a tail made of the turn and its conversation. The
//! conversation is in it because opencode writes a message whose id is known in *another* one into that other one.

use crate::domain::turn::TurnRef;
use sha2::{Digest, Sha256};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const TAIL_DIGITS: usize = 14;

/// The two ids of a prompt: with both ours, a send whose answer was lost may be repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PromptIds {
    /// Of the user message.
    pub message: String,
    /// Of its one text part.
    pub part: String,
}

/// Ids for the prompt of a turn in a conversation, sent at `now_ms` (milliseconds since 1970).
pub(super) fn prompt_ids(turn: TurnRef, agent_session_id: &str, now_ms: u64) -> PromptIds {
    let time = now_ms.wrapping_mul(4096) & 0xffff_ffff_ffff;
    let tail = tail(turn, agent_session_id);
    PromptIds { message: format!("msg_{time:012x}{tail}"), part: format!("prt_{time:012x}{tail}") }
}

/// True when the message is the prompt of that turn, whenever it was sent.
pub(super) fn is_prompt_of(message_id: &str, turn: TurnRef, agent_session_id: &str) -> bool {
    message_id.starts_with("msg_") && message_id.ends_with(&tail(turn, agent_session_id))
}

/// 14 base62 digits, 83 bits, of a SHA-256.
fn tail(turn: TurnRef, agent_session_id: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(turn.task.0.as_bytes());
    hash.update(turn.fence.0.to_be_bytes());
    hash.update(agent_session_id.as_bytes());
    let digest = hash.finalize();
    let mut bits = [0; 16];
    bits.copy_from_slice(&digest[..16]);
    let mut rest = u128::from_be_bytes(bits);
    let mut digits = String::with_capacity(TAIL_DIGITS);
    for _ in 0..TAIL_DIGITS {
        digits.push(char::from(BASE62[(rest % 62) as usize]));
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::{Fence, TaskId};

    fn turn(fence: i64) -> TurnRef {
        TurnRef { task: TaskId(uuid::Uuid::from_u128(7)), fence: Fence(fence) }
    }

    #[test]
    fn ours_sort_where_the_servers_own_would() {
        // The recording's first user message was made at 1795205996617 ms.
        let ours = prompt_ids(turn(1), "ses_a", 1_795_205_996_617).message;
        assert!(ours.starts_with("msg_1fa9da049000"), "{ours}");
        assert!(ours.as_str() < "msg_1fa9da049001HG7lrMvvUeROkh");
        assert_eq!(ours.len(), "msg_1fa9da049001HG7lrMvvUeROkh".len());
    }

    #[test]
    fn a_turn_is_found_again_whenever_it_was_sent_and_nowhere_else() {
        let sent = prompt_ids(turn(1), "ses_a", 5).message;
        assert!(is_prompt_of(&sent, turn(1), "ses_a"));
        assert!(!is_prompt_of(&sent, turn(2), "ses_a"));
        assert!(!is_prompt_of(&sent, turn(1), "ses_b"));
        assert_ne!(prompt_ids(turn(1), "ses_a", 6).message, sent);
    }
}
