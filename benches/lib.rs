//! Empty: a package needs a target that is not a benchmark.
