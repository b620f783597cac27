//! A notary that must not go on: its log may lack what it has signed.

use crate::notary::Notary;

impl Notary {
    /// Decides nothing from now on: what is in the log already is proven as before, everything else is answered with
    /// `why` and that it be asked again. The first reason stays.
    pub fn hold(&self, why: &str) {
        // A second one is no news.
        let _ = self.held.set(why.to_owned());
    }

    /// Why it decides nothing; None when it decides.
    pub(crate) fn held(&self) -> Option<&str> {
        self.held.get().map(String::as_str)
    }
}
