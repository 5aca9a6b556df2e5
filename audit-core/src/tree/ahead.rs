//! Nodes that are hashed ahead, many side by side.

use super::CompactRange;
use crate::hash::{Hash, Message, digests};

/// The nodes that a tree will get when certain leaves are pushed.
///
/// Nothing rests on the leaves being those: a node is used where its children are the very hashes
/// that the tree joins, and else it is hashed when it is needed.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodesAhead {
    /// From the leaves up: the index of the first hash within its level, and the hashes.
    levels: Vec<(u64, Vec<Hash>)>,
}

impl NodesAhead {
    /// Hashes the nodes above leaves that are going to be pushed.
    pub(crate) fn of(tree: &CompactRange, leaves: impl Iterator<Item = Hash>) -> Self {
        let size = tree.size();
        let mut complete = tree.hashes().iter().rev();
        let mut levels = Vec::new();
        let mut fresh: Vec<Hash> = leaves.collect();
        while !fresh.is_empty() && levels.len() < 63 {
            let mut first = size >> levels.len();
            if first % 2 == 1
                && let Some(left) = complete.next()
            {
                first -= 1;
                fresh.insert(0, *left);
            }
            let (pairs, _) = fresh.as_chunks::<2>();
            let joined: Vec<[u8; 64]> = pairs.iter().map(joined).collect();
            let messages: Vec<_> =
                joined.iter().map(|bytes| Message { prefix: &[0x01], bytes }).collect();
            let above = digests(&messages);
            levels.push((first, fresh));
            fresh = above;
        }
        Self { levels }
    }

    /// The node above two neighbours, of which the right one has this index within its level.
    #[inline]
    pub(crate) fn above(&self, level: usize, right: u64, children: [&Hash; 2]) -> Option<Hash> {
        let (first, hashes) = self.levels.get(level)?;
        let at = usize::try_from(right.checked_sub(first + 1)?).ok()?;
        let same = hashes.get(at)? == children[0] && hashes.get(at + 1)? == children[1];
        let (first, above) = self.levels.get(level + 1).filter(|_| same)?;
        above.get(usize::try_from((right / 2).checked_sub(*first)?).ok()?).copied()
    }
}

fn joined(children: &[Hash; 2]) -> [u8; 64] {
    let mut bytes = [0; 64];
    let (left, right) = bytes.split_at_mut(32);
    left.copy_from_slice(children[0].as_bytes());
    right.copy_from_slice(children[1].as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::{leaf, node};

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|at| leaf(&at.to_le_bytes())).collect()
    }

    #[test]
    fn trees_with_nodes_ahead_are_those_without() {
        let all = leaves(150);
        for size in 0..70 {
            for count in 0..80 {
                let mut plain: CompactRange = all[..size].iter().copied().collect();
                let mut tree = plain.clone();
                let ahead = NodesAhead::of(&tree, all[size..size + count].iter().copied());
                for leaf in &all[size..size + count] {
                    plain.push(*leaf);
                    tree.push_ahead(*leaf, &ahead);
                    assert_eq!(tree, plain, "{count} behind {size}");
                }
            }
        }
    }

    #[test]
    fn every_node_is_hashed_ahead_and_used() {
        let all = leaves(40);
        let tree: CompactRange = all[..5].iter().copied().collect();
        let ahead = NodesAhead::of(&tree, all[5..40].iter().copied());
        for right in (5..40).filter(|at| at % 2 == 1) {
            let [left, right_leaf] = [&all[right - 1], &all[right]];
            let found = ahead.above(0, right as u64, [left, right_leaf]);
            assert_eq!(found, Some(node(left, right_leaf)), "{right}");
        }
    }

    #[test]
    fn other_leaves_than_expected_get_their_own_nodes() {
        let all = leaves(40);
        let mut tree: CompactRange = all[..5].iter().copied().collect();
        let ahead = NodesAhead::of(&tree, all[5..40].iter().copied());
        let mut others = all[5..40].to_vec();
        others[10] = Hash::ZERO;
        others.remove(20);
        let mut plain = tree.clone();
        for leaf in others {
            plain.push(leaf);
            tree.push_ahead(leaf, &ahead);
            assert_eq!(tree, plain);
        }
    }
}
