use std::ops::Range;

use rand::SeedableRng;
use rand::rngs::StdRng;

/// What every campaign is told on its command line.
#[derive(Debug, Clone, clap::Args)]
#[non_exhaustive]
pub struct Arguments {
    /// How many rounds.
    #[arg(long, default_value_t = 10)]
    pub rounds: u64,
    /// What all chance in the campaign comes from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Only this round, as it was in a longer campaign with the same seed.
    #[arg(long)]
    pub round: Option<u64>,
}

impl Arguments {
    /// The numbers of the rounds to run.
    pub fn numbers(&self) -> Range<u64> {
        match self.round {
            Some(round) => round..round.saturating_add(1),
            None => 0..self.rounds,
        }
    }

    /// The chance of one round: the same for the same seed and number, whatever came before.
    pub fn chance(&self, round: u64) -> StdRng {
        Self::chance_of(self.seed, round)
    }

    /// The same, of a campaign with this seed.
    pub fn chance_of(of: u64, round: u64) -> StdRng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&of.to_le_bytes());
        seed[8..16].copy_from_slice(&round.to_le_bytes());
        StdRng::from_seed(seed)
    }
}
