//! Nothing: a package must have a target that is no benchmark.
