//! Text that must not be seen: `Debug` cannot print it and it is wiped on drop. Knows nothing of what the text means.

use std::fmt;

use zeroize::Zeroizing;

/// Secret text: a token, a client's secret, a whole token secret.
///
/// Two secrets compare as text does; the only way to the text is [`Secret::expose`], so that a search for that
/// word finds every place where a secret leaves this type.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Appends to what has been read so far, and wipes what it outgrows: a vector that grows by itself leaves copies behind.
#[cfg(any(feature = "_https", feature = "extension"))]
pub(crate) fn append(read: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    if read.len() + chunk.len() > read.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(2 * (read.len() + chunk.len())));
        larger.extend_from_slice(read);
        *read = larger;
    }
    read.extend_from_slice(chunk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_that_there_is_a_secret_and_nothing_of_it() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2"))), "Some(Secret(..))");
    }
}
