#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::hash::{leaf, node};

/// MTH of RFC 6962 section 2.1, word for word.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => EMPTY_ROOT,
        [only] => *only,
        _ => {
            let mut k = 1;
            while k * 2 < leaves.len() {
                k *= 2;
            }
            node(&naive_root(&leaves[..k]), &naive_root(&leaves[k..]))
        }
    }
}

/// PATH of RFC 6962 section 2.1.1, word for word.
fn naive_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return Vec::new();
    }
    let mut k = 1;
    while k * 2 < leaves.len() {
        k *= 2;
    }
    if m < k {
        [naive_path(m, &leaves[..k]), vec![naive_root(&leaves[k..])]].concat()
    } else {
        [naive_path(m - k, &leaves[k..]), vec![naive_root(&leaves[..k])]].concat()
    }
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|index| leaf(&index.to_be_bytes())).collect()
}

#[derive(Deserialize)]
struct KnownAnswers {
    leaves: Vec<String>,
    roots: Vec<Hash>,
    inclusion: Vec<InclusionProof>,
    consistency: Vec<ConsistencyProof>,
}

fn known_answers() -> (KnownAnswers, Vec<Hash>) {
    let answers: KnownAnswers =
        serde_json::from_str(include_str!("../../tests-data/rfc6962.json")).unwrap();
    let bytes = |hex: &String| -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    };
    let leaves = answers.leaves.iter().map(|hex| leaf(&bytes(hex))).collect();
    (answers, leaves)
}

#[test]
fn roots_are_the_published_ones() {
    let (answers, leaves) = known_answers();
    assert_eq!(answers.roots.len(), 9);
    let whole = MerkleTree::from_leaves(&leaves);
    let mut range = CompactRange::new();
    for (size, root) in answers.roots.iter().enumerate() {
        assert_eq!(range.root(), *root);
        assert_eq!(MerkleTree::from_leaves(&leaves[..size]).root(), *root);
        assert_eq!(whole.root_at(size as u64).unwrap(), *root);
        assert_eq!(naive_root(&leaves[..size]), *root);
        range.extend(leaves.get(size).copied());
    }
}

#[test]
fn proofs_are_the_published_ones() {
    let (answers, leaves) = known_answers();
    let tree = MerkleTree::from_leaves(&leaves);
    let at = |size: u64| usize::try_from(size).unwrap();
    for proof in &answers.inclusion {
        let (index, size) = (proof.leaf_index, proof.tree_size);
        assert_eq!(tree.inclusion_proof_at(index, size).as_ref(), Ok(proof));
        assert_eq!(proof.verify(&leaves[at(index)], &answers.roots[at(size)]), Ok(()));
    }
    for proof in &answers.consistency {
        let (first, second) = (proof.first_size, proof.second_size);
        assert_eq!(tree.consistency_proof(first, second).as_ref(), Ok(proof));
        assert_eq!(proof.verify(&answers.roots[at(first)], &answers.roots[at(second)]), Ok(()));
    }
    assert_eq!((answers.inclusion.len(), answers.consistency.len()), (2, 4));
}

/// Every proof of every tree of up to 34 leaves: past two powers of two.
#[test]
fn every_small_proof_holds_and_holds_for_nothing_else() {
    let leaves = leaves(34);
    let tree = MerkleTree::from_leaves(&leaves);
    let roots: Vec<Hash> = (0..=34).map(|size| naive_root(&leaves[..size])).collect();
    for size in 1..=34 {
        for index in 0..size {
            let proof = tree.inclusion_proof_at(index as u64, size as u64).unwrap();
            assert_eq!(proof.hashes, naive_path(index, &leaves[..size]));
            for (other, leaf) in leaves.iter().enumerate() {
                assert_eq!(proof.verify(leaf, &roots[size]).is_ok(), other == index);
            }
            for (other, root) in roots.iter().enumerate() {
                assert_eq!(proof.verify(&leaves[index], root).is_ok(), other == size);
            }
        }
    }
    for second in 0..=34 {
        for first in 0..=second {
            let proof = tree.consistency_proof(first as u64, second as u64).unwrap();
            for (other, root) in roots.iter().enumerate() {
                assert_eq!(proof.verify(root, &roots[second]).is_ok(), other == first);
                // Every tree continues the empty one; nothing else continues two trees.
                let expected = other == second || first == 0 && second != 0;
                assert_eq!(proof.verify(&roots[first], root).is_ok(), expected);
            }
        }
    }
}

#[test]
fn a_changed_proof_does_not_hold() {
    let leaves = leaves(23);
    let tree = MerkleTree::from_leaves(&leaves);
    let root = tree.root();
    for index in 0..23 {
        let proof = tree.inclusion_proof(index).unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        for hashes in mutations(&proof.hashes, &[leaf, root]) {
            let bad = InclusionProof { hashes, ..proof.clone() };
            assert!(bad.verify(&leaf, &root).is_err(), "{bad:?}");
        }
        for other in (0..64).filter(|&other| other != index).chain([u64::MAX]) {
            let bad = InclusionProof { leaf_index: other, ..proof.clone() };
            assert!(bad.verify(&leaf, &root).is_err(), "{bad:?}");
        }
    }
    for first in 1..23 {
        let proof = tree.consistency_proof(first, 23).unwrap();
        let earlier = tree.root_at(first).unwrap();
        for hashes in mutations(&proof.hashes, &[earlier, root]) {
            let bad = ConsistencyProof { hashes, ..proof.clone() };
            assert!(bad.verify(&earlier, &root).is_err(), "{bad:?}");
        }
        for bad_root in [Hash::ZERO, EMPTY_ROOT, root] {
            assert!(proof.verify(&bad_root, &root).is_err());
        }
    }
}

/// Every bit-flipped, shortened, lengthened and reordered version of a proof.
fn mutations(hashes: &[Hash], extra: &[Hash]) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for at in 0..hashes.len() {
        for bit in [0, 100, 255] {
            let mut bytes = *hashes[at].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let mut flipped = hashes.to_vec();
            flipped[at] = Hash::from_bytes(bytes);
            all.push(flipped);
        }
        all.push([&hashes[..at], &hashes[at + 1..]].concat());
        if at > 0 {
            let mut swapped = hashes.to_vec();
            swapped.swap(at - 1, at);
            all.push(swapped);
        }
    }
    for &hash in extra.iter().chain([&Hash::ZERO]) {
        for at in 0..=hashes.len() {
            all.push([&hashes[..at], &[hash], &hashes[at..]].concat());
        }
    }
    all
}

/// A true proof under a false size: the roots fit, the way does not end at the top.
#[test]
fn a_proof_under_a_size_of_another_height_does_not_hold() {
    let tree = MerkleTree::from_leaves(&leaves(16));
    for (first, second) in [(1, 2), (2, 4), (3, 4), (4, 8), (7, 8), (9, 16)] {
        let proof = tree.consistency_proof(first, second).unwrap();
        let roots = [first, second].map(|size| tree.root_at(size).unwrap());
        assert_eq!(proof.verify(&roots[0], &roots[1]), Ok(()));
        for second_size in [second * 2, second * 4, u64::MAX] {
            let bad = ConsistencyProof { second_size, ..proof.clone() };
            assert_eq!(bad.verify(&roots[0], &roots[1]), Err(ProofError::Length), "{bad:?}");
        }
    }
}

/// The fault of trees that pair an odd leaf with itself: two different logs with one root.
#[test]
fn an_odd_leaf_is_not_duplicated() {
    let [a, b, c] = [leaf(b"a"), leaf(b"b"), leaf(b"c")];
    let odd = MerkleTree::from_leaves(&[a, b, c]);
    let doubled = MerkleTree::from_leaves(&[a, b, c, c]);
    assert_eq!(odd.root(), node(&node(&a, &b), &c));
    assert_ne!(odd.root(), doubled.root());
    let proof = doubled.inclusion_proof(3).unwrap();
    assert!(proof.verify(&c, &odd.root()).is_err());
}

/// The fault of trees without domain separation: a node, shown as if it were an event.
#[test]
fn a_leaf_is_not_taken_for_a_node() {
    let [a, b, c, d] = [leaf(b"a"), leaf(b"b"), leaf(b"c"), leaf(b"d")];
    let root = MerkleTree::from_leaves(&[a, b, c, d]).root();
    // An event whose bytes are the concatenation of two hashes does not hash to their node.
    let [left, right] = [node(&a, &b), node(&c, &d)];
    let event = [left.as_bytes().as_slice(), right.as_bytes()].concat();
    assert_ne!(leaf(&event), root);
    let behind_its_prefix = [&[0x01], event.as_slice()].concat();
    assert_ne!(leaf(&behind_its_prefix), root);
    // Nor is a node at the height of a leaf provable under the size that the root is bound to.
    let forged = InclusionProof { leaf_index: 0, tree_size: 4, hashes: vec![right] };
    assert_eq!(forged.verify(&left, &root), Err(ProofError::Length));
}

#[test]
fn questions_beyond_the_tree_are_errors() {
    let tree = MerkleTree::from_leaves(&leaves(5));
    for (index, size) in [(5, 5), (0, 6), (0, 0), (3, 3), (u64::MAX, 5), (0, u64::MAX)] {
        assert!(tree.inclusion_proof_at(index, size).is_err(), "{index} of {size}");
    }
    for (first, second) in [(6, 6), (5, 6), (3, 2), (0, u64::MAX), (u64::MAX, 0)] {
        assert!(tree.consistency_proof(first, second).is_err(), "{first} to {second}");
    }
    assert!(tree.root_at(6).is_err());
    assert!(MerkleTree::new().inclusion_proof(0).is_err());
    assert_eq!(MerkleTree::new().root(), EMPTY_ROOT);
}

/// The largest honest proof that a `u64` allows: 64 levels.
#[test]
fn the_largest_tree_can_be_proved() {
    let [earlier, sibling] = [leaf(b"leaf"), leaf(b"sibling")];
    let root = (0..64).fold(earlier, |hash, _| node(&hash, &sibling));
    let proof =
        |count| InclusionProof { leaf_index: 0, tree_size: u64::MAX, hashes: vec![sibling; count] };
    assert_eq!(proof(64).verify(&earlier, &root), Ok(()));
    assert_eq!(proof(63).verify(&earlier, &root), Err(ProofError::Length));
    assert_eq!(proof(65).verify(&earlier, &root), Err(ProofError::Length));
    let proof =
        ConsistencyProof { first_size: 1, second_size: u64::MAX, hashes: vec![sibling; 64] };
    assert_eq!(proof.verify(&earlier, &root), Ok(()));
}

#[test]
fn parts_that_are_no_tree_are_refused() {
    let one = leaf(b"");
    for (size, count) in [(0, 1), (1, 0), (2, 2), (3, 1), (u64::MAX, 1), (1 << 63, 0)] {
        assert!(CompactRange::from_parts(size, vec![one; count]).is_err(), "{size} {count}");
    }
    assert!(CompactRange::from_parts(u64::MAX, vec![one; 64]).is_err());
    let mut huge = CompactRange::from_parts((1 << 63) - 1, vec![one; 63]).unwrap();
    huge.push(one);
    huge.push(one);
    assert_eq!((huge.size(), huge.hashes().len()), ((1 << 63) + 1, 2));
    for bad in [
        r#"{"size":"1","hashes":[]}"#,
        r#"{"size":1,"hashes":[]}"#,
        r#"{"size":"00","hashes":[]}"#,
        r#"{"size":"+0","hashes":[]}"#,
        r#"{"size":"18446744073709551616","hashes":[]}"#,
    ] {
        assert!(serde_json::from_str::<CompactRange>(bad).is_err(), "{bad}");
    }
}

/// The state for which a writer pays on each event.
#[test]
fn a_grown_range_does_not_allocate() {
    let mut range: CompactRange = leaves(1023).into_iter().collect();
    let before = range.hashes().as_ptr();
    for index in 0..1024 {
        range.push(leaf(&[1]));
        assert_eq!(range.hashes().as_ptr(), before, "moved at {index}");
    }
}

proptest! {
    #[test]
    fn every_view_is_the_naive_tree(count in 0_usize..700, cut in 0_usize..700, index in 0_usize..700) {
        let leaves = leaves(count);
        let expected = naive_root(&leaves);
        let cut = cut.min(count);

        let tree = MerkleTree::from_leaves(&leaves);
        prop_assert_eq!(tree.root(), expected);
        prop_assert_eq!(tree.root_at(cut as u64).unwrap(), naive_root(&leaves[..cut]));
        let mut grown = MerkleTree::from_leaves(&leaves[..cut]);
        leaves[cut..].iter().for_each(|&leaf| grown.push(leaf));
        prop_assert_eq!(grown.root(), expected);
        prop_assert_eq!(grown.size(), count as u64);

        // A range that is stored and restored half-way.
        let range: CompactRange = leaves[..cut].iter().copied().collect();
        let json = serde_json::to_string(&range).unwrap();
        let mut range: CompactRange = serde_json::from_str(&json).unwrap();
        range.extend(leaves[cut..].iter().copied());
        prop_assert_eq!(range.root(), expected);
        prop_assert_eq!(range.hashes().len(), count.count_ones() as usize);

        let consistency = tree.consistency_proof(cut as u64, count as u64).unwrap();
        prop_assert_eq!(consistency.verify(&naive_root(&leaves[..cut]), &expected), Ok(()));
        if index < count {
            let inclusion = grown.inclusion_proof(index as u64).unwrap();
            prop_assert_eq!(&inclusion.hashes, &naive_path(index, &leaves));
            prop_assert_eq!(inclusion.verify(&leaves[index], &expected), Ok(()));
            let json = serde_json::to_string(&inclusion).unwrap();
            prop_assert_eq!(serde_json::from_str::<InclusionProof>(&json).unwrap(), inclusion);
        }
    }

    #[test]
    fn no_input_makes_a_proof_panic_or_hold(
        first in prop_oneof![any::<u64>(), 0..10_u64, u64::MAX - 3..=u64::MAX, (0..64_u32).prop_map(|bit| 1 << bit)],
        second in prop_oneof![any::<u64>(), 0..10_u64, u64::MAX - 3..=u64::MAX, (0..64_u32).prop_map(|bit| 1 << bit)],
        hashes in proptest::collection::vec(any::<[u8; 32]>().prop_map(Hash::from_bytes), 0..70),
        roots: [[u8; 32]; 2],
    ) {
        let [one, other] = roots.map(Hash::from_bytes);
        prop_assume!(one != other);
        let inclusion = InclusionProof { leaf_index: first, tree_size: second, hashes: hashes.clone() };
        prop_assert!(inclusion.verify(&one, &other).is_err());
        let consistency = ConsistencyProof { first_size: first, second_size: second, hashes };
        prop_assert!(consistency.verify(&one, &other).is_err());
    }
}
