//! All of our chains, read back.

use super::{ApplyError, Programmed};
use portreeve_table::Difference;

/// Most readings of chains that others keep changing beside.
const READINGS: u8 = 3;

impl Programmed {
    /// What differs is looked at again if anybody changed rules meanwhile, where that is told.
    pub(super) fn compare(&self) -> Result<Vec<Difference>, ApplyError> {
        let ruleset = self.in_force.as_ref().ok_or(ApplyError::Nothing)?;
        let mut readings = READINGS;
        loop {
            let before = self.generation()?;
            let mut differences = Vec::new();
            for (family, programs) in &self.programs {
                differences.extend(programs.save()?.told(ruleset, *family));
            }
            readings -= 1;
            if differences.is_empty() || readings == 0 || self.generation()? == before {
                return Ok(differences);
            }
        }
    }
}
