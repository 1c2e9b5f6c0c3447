//! The pool's scales: what `/proc` says of the children of our shims.

use crate::pool::{Scales, Weights};
use crate::process::Shims;

pub(super) struct ShimScales(pub(super) Shims);

impl Scales for ShimScales {
    fn weigh(&self, roots: &[u32]) -> Weights {
        let weights = self.0.weigh(roots);
        Weights { by_root: weights.by_child, strays: weights.strays }
    }
}
