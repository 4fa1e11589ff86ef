//! Every test that needs more than one part: one binary, one module per subject.

mod harness;
