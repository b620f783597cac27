//! Chance that a seed fixes.

/// The variable that fixes the seeds of simulated disks: a test that failed says its value.
pub const SEED_VARIABLE: &str = "P2PET_SIMULATION_SEED";

/// The seed that the variable says, else `default`.
pub fn seed_from_environment(default: u64) -> u64 {
    let said = std::env::var(SEED_VARIABLE).ok();
    said.and_then(|text| text.trim().parse().ok())
        .unwrap_or(default)
}

/// Numbers that look random: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll().checked_rem(end).unwrap_or_default()
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
