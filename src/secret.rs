//! Text that must stay secret: `Debug` does not print it, and it is wiped on drop. Does not know what the text means.

use std::fmt;

use zeroize::Zeroizing;

/// Secret text: a token, a client's secret, a whole token secret.
///
/// Two secrets compare like text. Only [`Secret::expose`] returns the text: a search for that word finds every place where a
/// secret leaves this type.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The text.
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

/// Appends a chunk to the bytes read so far. If the buffer is too small, copies it to a larger one and wipes the old one: a vector
/// that grows by itself leaves unwiped copies in memory.
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
    fn debug_does_not_print_the_text() {
        assert_eq!(format!("{:?}", Some(Secret::from("hunter2"))), "Some(Secret(..))");
    }
}
