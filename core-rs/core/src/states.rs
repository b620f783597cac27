//! The checks that need the states which a transaction consumes.

use crate::component::OutputState;
use crate::contents::{Contents, Kind};
use crate::encumbrance::consumed_companions;
use crate::error::Refusal;

/// Checks a transaction against the states that its inputs name, in order:
/// 1. no encumbered state is consumed without its companion; 2. a notary change leaves every state as it was, but for
///    the notary and the new index of its companion.
pub(crate) fn check_states(
    contents: &Contents<'_>,
    states: &[OutputState<'_>],
) -> Result<(), Refusal> {
    // 1.
    let companions = consumed_companions(&contents.inputs, states)?;
    // 2.
    if contents.kind == Kind::General {
        return Ok(());
    }
    let moved = contents.outputs.iter().zip(states).zip(companions);
    for (((output, state), companion), index) in moved.zip(0u32..) {
        let expected = OutputState {
            notary: output.notary,
            encumbered_by: companion.map_or(0, |position| position.saturating_add(1)),
            ..*state
        };
        if *output != expected {
            let text = format!(
                "output {index} is not the state of input {index}; a notary change alters its notary and nothing else"
            );
            return Err(Refusal::new("transaction.notary_change_invalid", text));
        }
    }
    Ok(())
}
