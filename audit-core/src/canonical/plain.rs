//! The part of a string that is the same inside and outside of JSON.

/// How many bytes from the start need no look: no quotation mark, backslash or control character.
///
/// Eight bytes at a time (the word tricks of Hacker's Delight, section 6-1): a high bit remains in
/// each byte that is below 0x20 or equal to a mark, and the lowest such bit is exact.
#[inline]
pub(super) fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word;
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word;
        let quote = zero_bytes(word ^ (ONES * u64::from(b'"')));
        let backslash = zero_bytes(word ^ (ONES * u64::from(b'\\')));
        let hit = (control | quote | backslash) & HIGHS;
        if hit != 0 {
            return at * 8 + usize::try_from(hit.trailing_zeros() / 8).expect("below eight");
        }
    }
    let plain = tail.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
    words.len() * 8 + plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_prefix_is_exact(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let slow = bytes.iter().take_while(|&&b| b >= 0x20 && b != b'"' && b != b'\\').count();
            prop_assert_eq!(plain_prefix(&bytes), slow);
        }
    }
}
