//! Runs a target: with its seeds and mutations of them, the same in each run, or under libFuzzer if that is compiled in.

/// Runs a target. `name` is its folder below `corpus`; `more` are further folders of seeds.
#[cfg(not(fuzzing))]
pub fn fuzz(name: &str, more: &[&str], target: fn(&[u8])) {
    let corpus = format!("tests/fuzz/corpus/{name}");
    let seeds: Vec<_> = std::iter::once(corpus.as_str()).chain(more.iter().copied()).flat_map(replay::files).collect();
    replay::run(&seeds, target);
}

/// Runs the target under libFuzzer, whose arguments (`BOLERO_LIBFUZZER_ARGS`) name the folders of seeds.
#[cfg(fuzzing)]
pub fn fuzz(_: &str, _: &[&str], target: fn(&[u8])) {
    bolero::check!().for_each(target);
}

#[cfg(not(fuzzing))]
mod replay {
    use std::{fs, thread};

    use fastrand::Rng;

    /// The number of mutations: about one second without optimisation.
    const MUTATIONS: usize = 3000;

    /// The contents of a folder's files, sorted by file name.
    pub fn files(folder: &str) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{folder} has no seed");
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    pub fn run(seeds: &[Vec<u8>], target: fn(&[u8])) {
        for seed in seeds {
            try_one(target, seed);
        }
        let mut rng = Rng::with_seed(1);
        for _ in 0..MUTATIONS {
            let mut input = rng.choice(seeds).unwrap().clone();
            for _ in 0..rng.u8(1..=4) {
                mutate(&mut input, rng.choice(seeds).unwrap(), &mut rng);
            }
            try_one(target, &input);
        }
    }

    fn try_one(target: fn(&[u8]), input: &[u8]) {
        let _shown = ShownInPanic(input);
        target(input);
    }

    /// Makes one small change. Half of the changes copy a piece of another seed.
    fn mutate(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
        let at = rng.usize(..=input.len());
        let end = rng.usize(at..=input.len().min(at + 16));
        match rng.u8(..6) {
            0 => drop(input.drain(at..end)),
            1 => input.insert(at, rng.u8(..)),
            2 if at < end => input[at] ^= 1 << rng.u8(..8),
            _ => {
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len().min(from + 64));
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
        }
    }

    /// Prints the input of a target that fails. The seeds hold no real secret.
    struct ShownInPanic<'a>(&'a [u8]);

    impl Drop for ShownInPanic<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("the input was b\"{}\"", self.0.escape_ascii());
            }
        }
    }
}
