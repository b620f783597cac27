//! States that can only be consumed together (section 2, encumbrance).

use crate::component::{OutputState, StateRef};
use crate::error::Refusal;
use std::collections::HashMap;

/// The index of the output of the same transaction that must be consumed with this one.
#[must_use]
pub fn companion(output: &OutputState<'_>) -> Option<u32> {
    output.encumbered_by.checked_sub(1)
}

/// Refuses outputs unless those that are encumbered form cycles: each is named by exactly one other of them.
pub(crate) fn check_cycles(outputs: &[OutputState<'_>]) -> Result<(), Refusal> {
    let mut named = vec![false; outputs.len()];
    for (output, index) in outputs.iter().zip(0u32..) {
        let Some(other) = companion(output) else {
            continue;
        };
        let position = usize::try_from(other).unwrap_or(usize::MAX);
        let refuse = |what: &str| {
            let text = format!("output {index} is encumbered by output {other}, {what}");
            Err(Refusal::new("transaction.encumbrance_invalid", text))
        };
        if other == index {
            return refuse("which is itself; name another one");
        }
        let encumbered = outputs.get(position).map(|output| output.encumbered_by);
        match (encumbered, named.get_mut(position)) {
            (None, _) | (_, None) => return refuse("which does not exist"),
            (Some(0), _) => {
                return refuse("which could be consumed alone; encumber that one too");
            }
            (_, Some(named)) if *named => {
                return refuse("which encumbers another one already; let them form a cycle");
            }
            (_, Some(named)) => *named = true,
        }
    }
    Ok(())
}

/// The position among `inputs` of the companion of each input, `None` for one that is not encumbered.
///
/// `states` are what the inputs name, in order. Refuses an input whose companion is not consumed too.
pub(crate) fn consumed_companions(
    inputs: &[StateRef<'_>],
    states: &[OutputState<'_>],
) -> Result<Vec<Option<u32>>, Refusal> {
    if states.iter().all(|state| companion(state).is_none()) {
        return Ok(vec![None; states.len()]);
    }
    let positions: HashMap<_, _> = inputs
        .iter()
        .map(|input| input.parts())
        .zip(0u32..)
        .collect();
    let pairs = inputs.iter().zip(states).zip(0u32..);
    let found = pairs.map(|((input, state), index)| {
        let Some(other) = companion(state) else {
            return Ok(None);
        };
        let (id, _) = input.parts();
        let position = positions.get(&(id, other)).copied();
        position.map(Some).ok_or_else(|| {
            let text = format!(
                "input {index} is encumbered by output {other} of the transaction that made it; consume that one too"
            );
            Refusal::new("transaction.encumbered_alone", text)
        })
    });
    found.collect()
}
