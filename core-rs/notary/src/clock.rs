//! The clock of decisions: it never steps back, and a reading that cannot be right moves nothing.

use rustix::time::{ClockId, clock_gettime};

use crate::service::Service;

/// Nanoseconds that the system's clock may gain on the machine's steady one between two readings.
const JUMP_NS_MAX: i64 = 24 * 3600 * NS_PER_S;
const NS_PER_S: i64 = 1_000_000_000;

/// The time since the machine started, its sleep included; nobody sets it.
pub(crate) fn steady_ns() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * NS_PER_S + time.tv_nsec
}

/// What earlier decisions leave for the next.
pub(crate) struct Clock {
    last_decided_at_ns: i64,
    /// The latest reading that a record holds.
    durable_at_ns: i64,
    /// The reading that is furthest ahead of the steady clock, and the steady clock then.
    believed: Option<(i64, i64)>,
}

/// One reading, as a decision may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The time of the decision: never below an earlier one.
    pub(crate) at_ns: i64,
    /// The clock has not caught up with the last decision.
    pub(crate) behind: bool,
    /// Why nothing may be decided at this time.
    pub(crate) trouble: Option<String>,
}

impl Clock {
    /// The clock of a log whose last decision was made at that time.
    pub(crate) fn new(last_decided_at_ns: i64) -> Self {
        Self {
            last_decided_at_ns,
            durable_at_ns: last_decided_at_ns,
            believed: None,
        }
    }

    /// Reads the system's clock, `now_ns`, beside the steady one. Moves no decision's time.
    pub(crate) fn read(&mut self, now_ns: i64, steady_ns: i64, service: &Service) -> Reading {
        let at_ns = now_ns.max(self.last_decided_at_ns);
        let trouble = if !service.may_sign(at_ns) {
            Some(format!(
                "the worker's certificate does not cover the time {at_ns}; its operator must renew it or correct the clock"
            ))
        } else if self.jumped(now_ns, steady_ns) {
            Some(format!(
                "the clock has jumped ahead to {now_ns}; its operator must correct it, or restart the notary if it is right now"
            ))
        } else {
            None
        };
        Reading {
            at_ns,
            behind: now_ns < self.last_decided_at_ns,
            trouble,
        }
    }

    /// Whether the reading gained too much on the steady clock; one that did not is believed.
    fn jumped(&mut self, now_ns: i64, steady_ns: i64) -> bool {
        let gained = self.believed.map_or(i64::MAX, |(now_then, steady_then)| {
            now_ns
                .saturating_sub(now_then)
                .saturating_sub(steady_ns.saturating_sub(steady_then))
        });
        if self.believed.is_some() && gained > JUMP_NS_MAX {
            return true;
        }
        // A step back is no new beginning, else the return from it would be a jump.
        if gained > 0 {
            self.believed = Some((now_ns, steady_ns));
        }
        false
    }

    /// The time of the last decision.
    pub(crate) fn last_decided_at_ns(&self) -> i64 {
        self.last_decided_at_ns
    }

    /// Whether a record holds this time or a later one.
    pub(crate) fn is_durable(&self, at_ns: i64) -> bool {
        self.durable_at_ns >= at_ns
    }

    /// A decision was made at this reading; one that nothing may be decided at leaves no trace.
    pub(crate) fn decided(&mut self, reading: &Reading) {
        if reading.trouble.is_none() {
            self.last_decided_at_ns = reading.at_ns;
        }
    }

    /// A record holds the time of the last decision.
    pub(crate) fn appended(&mut self) {
        self.durable_at_ns = self.last_decided_at_ns;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use p2pet_core::certificate::certify_worker;
    use p2pet_core::keys::SigningKey;

    use super::*;

    const NOW: i64 = 1_800_000_000 * NS_PER_S;

    fn service(not_before_ns: i64, not_after_ns: i64) -> Service {
        let [service, worker] = [[1; 32], [2; 32]].map(|seed| SigningKey::from_seed(&seed));
        let (network, key) = ([0; 32], worker.public());
        let certificate = certify_worker(&service, &network, &key, not_before_ns, not_after_ns);
        Service::new(network, 1, Arc::new(worker), &certificate).unwrap()
    }

    #[test]
    fn r11_a_jump_of_more_than_a_day_is_not_believed_until_the_clock_agrees_again() {
        let (mut clock, service) = (Clock::new(i64::MIN), service(0, i64::MAX));
        let mut trouble = |now_ns, steady_ns| {
            let reading = clock.read(now_ns, steady_ns, &service);
            clock.decided(&reading);
            (reading.trouble.is_some(), clock.last_decided_at_ns())
        };
        assert_eq!(trouble(NOW, 0), (false, NOW));
        assert_eq!(trouble(NOW + JUMP_NS_MAX, 0), (false, NOW + JUMP_NS_MAX));
        let ahead = NOW + 2 * JUMP_NS_MAX;
        assert_eq!(trouble(ahead + 1, 0), (true, NOW + JUMP_NS_MAX));
        assert_eq!(trouble(ahead + 9, 7), (true, NOW + JUMP_NS_MAX));
        assert_eq!(trouble(ahead + 9, 9), (false, ahead + 9));
    }

    #[test]
    fn r11_a_step_back_and_the_return_from_it_are_no_jump() {
        let (mut clock, service) = (Clock::new(i64::MIN), service(0, i64::MAX));
        let mut read = |now_ns, steady_ns| {
            let reading = clock.read(now_ns, steady_ns, &service);
            clock.decided(&reading);
            (reading.at_ns, reading.behind, reading.trouble)
        };
        assert_eq!(read(NOW, 0), (NOW, false, None));
        assert_eq!(read(NOW - 9 * JUMP_NS_MAX, 1), (NOW, true, None));
        assert_eq!(read(NOW + 2, 2), (NOW + 2, false, None));
    }

    #[test]
    fn r11_a_machine_that_starts_without_a_clock_may_set_it() {
        let (mut clock, service) = (Clock::new(i64::MIN), service(NOW, NOW + 9));
        assert!(clock.read(0, 0, &service).trouble.is_some());
        assert_eq!(clock.read(NOW + 1, 1, &service).trouble, None);
    }
}
