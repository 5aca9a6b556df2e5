//! Sixteen lanes of SHA-256 in the registers of AVX-512.

use core::arch::x86_64::__m512i;

use pulp::{NullaryFnOnce, cast, x86::V4};

use super::{
    Hash,
    lanes::{FEWEST, LANES, Message, START, State, hash_of},
};

/// The SHA-256 of each message, where the processor can.
pub(super) fn digests(messages: &[Message<'_>]) -> Option<Vec<Hash>> {
    let simd = V4::try_new()?;
    let mut hashes = vec![Hash::ZERO; messages.len()];
    simd.vectorize(Run { simd, messages, hashes: &mut hashes });
    Some(hashes)
}

struct Run<'a> {
    simd: V4,
    messages: &'a [Message<'a>],
    hashes: &'a mut [Hash],
}

/// What one lane is at.
#[derive(Clone, Copy, Default)]
struct Lane {
    message: usize,
    /// The block that comes next.
    block: usize,
    blocks: usize,
}

impl Lane {
    #[inline(always)]
    fn is_busy(&self) -> bool {
        self.block < self.blocks
    }
}

/// One word of all lanes' states in a row, as a register has it.
#[repr(align(64))]
struct States([[u32; LANES]; 8]);

impl States {
    #[inline(always)]
    fn start(&mut self, lane: usize) {
        self.0.iter_mut().zip(START).for_each(|(row, word)| row[lane] = word);
    }

    #[inline(always)]
    fn of(&self, lane: usize) -> State {
        let mut state = START;
        for (word, row) in state.iter_mut().zip(&self.0) {
            *word = row[lane];
        }
        state
    }
}

#[repr(align(64))]
struct Blocks([[u8; 64]; LANES]);

impl NullaryFnOnce for Run<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { simd, messages, hashes } = self;
        let mut states = States([[0; LANES]; 8]);
        let mut blocks = Blocks([[0; 64]; LANES]);
        let mut lanes = [Lane::default(); LANES];
        let mut waiting = messages.iter().enumerate();
        let mut busy = 0;
        for (at, (lane, (message, text))) in lanes.iter_mut().zip(&mut waiting).enumerate() {
            *lane = Lane { message, block: 0, blocks: text.blocks() };
            states.start(at);
            busy += 1;
        }
        while busy >= FEWEST {
            for (lane, block) in lanes.iter().zip(&mut blocks.0) {
                if lane.is_busy() {
                    messages[lane.message].write_block(lane.block, block);
                }
            }
            compress(simd, &mut states.0, &blocks.0);
            for (at, lane) in lanes.iter_mut().enumerate().filter(|(_, lane)| lane.is_busy()) {
                lane.block += 1;
                if lane.is_busy() {
                    continue;
                }
                hashes[lane.message] = hash_of(states.of(at));
                if let Some((message, text)) = waiting.next() {
                    *lane = Lane { message, block: 0, blocks: text.blocks() };
                    states.start(at);
                } else {
                    busy -= 1;
                }
            }
        }
        for (at, lane) in lanes.iter().enumerate().filter(|(_, lane)| lane.is_busy()) {
            hashes[lane.message] = messages[lane.message].finish(states.of(at), lane.block);
        }
    }
}

/// The constants of the rounds (FIPS 180-4 section 4.2.2).
const K: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// Compresses one block of each lane (FIPS 180-4 section 6.2.2).
#[inline(always)]
fn compress(simd: V4, state: &mut [[u32; LANES]; 8], blocks: &[[u8; 64]; LANES]) {
    let f = simd.avx512f;
    let mut w = transposed(simd, blocks);
    // What is a closure, or is handed one, may be compiled apart, without the instructions.
    macro_rules! add {
        ($a:expr, $b:expr) => {
            f._mm512_add_epi32($a, $b)
        };
    }
    let zero: __m512i = cast([0u32; LANES]);
    let mut s = [zero; 8];
    for (s, row) in s.iter_mut().zip(state.iter()) {
        *s = cast(*row);
    }
    macro_rules! xor3 {
        ($a:expr, $b:expr, $c:expr) => {
            f._mm512_ternarylogic_epi32::<0x96>($a, $b, $c)
        };
    }
    macro_rules! round {
        ($t:expr, $i:expr) => {{
            const A: usize = (16 - $i) % 8;
            const B: usize = (17 - $i) % 8;
            const C: usize = (18 - $i) % 8;
            const D: usize = (19 - $i) % 8;
            const E: usize = (20 - $i) % 8;
            const F: usize = (21 - $i) % 8;
            const G: usize = (22 - $i) % 8;
            const H: usize = (23 - $i) % 8;
            let (a, b, c, e, g, h) = (s[A], s[B], s[C], s[E], s[G], s[H]);
            let ff = s[F];
            let sum1 = xor3!(
                f._mm512_ror_epi32::<6>(e),
                f._mm512_ror_epi32::<11>(e),
                f._mm512_ror_epi32::<25>(e)
            );
            let ch = f._mm512_ternarylogic_epi32::<0xca>(e, ff, g);
            let t1 = add!(add!(add!(h, add!(w[$i], cast([K[$t + $i]; 16]))), ch), sum1);
            let sum0 = xor3!(
                f._mm512_ror_epi32::<2>(a),
                f._mm512_ror_epi32::<13>(a),
                f._mm512_ror_epi32::<22>(a)
            );
            let maj = f._mm512_ternarylogic_epi32::<0xe8>(a, b, c);
            s[D] = add!(s[D], t1);
            s[H] = add!(t1, add!(sum0, maj));
        }};
    }
    macro_rules! schedule {
        ($i:expr) => {{
            let w15 = w[($i + 1) % 16];
            let w2 = w[($i + 14) % 16];
            let s0 = xor3!(
                f._mm512_ror_epi32::<7>(w15),
                f._mm512_ror_epi32::<18>(w15),
                f._mm512_srli_epi32::<3>(w15)
            );
            let s1 = xor3!(
                f._mm512_ror_epi32::<17>(w2),
                f._mm512_ror_epi32::<19>(w2),
                f._mm512_srli_epi32::<10>(w2)
            );
            w[$i] = add!(add!(w[$i], s0), add!(w[($i + 9) % 16], s1));
        }};
    }
    macro_rules! sixteen { ($m:ident $(, $t:expr)?) => {
        $m!($($t,)? 0); $m!($($t,)? 1); $m!($($t,)? 2); $m!($($t,)? 3); $m!($($t,)? 4); $m!($($t,)? 5); $m!($($t,)? 6); $m!($($t,)? 7);
        $m!($($t,)? 8); $m!($($t,)? 9); $m!($($t,)? 10); $m!($($t,)? 11); $m!($($t,)? 12); $m!($($t,)? 13); $m!($($t,)? 14); $m!($($t,)? 15);
    } }
    macro_rules! both {
        ($t:expr, $i:expr) => {{
            schedule!($i);
            round!($t, $i);
        }};
    }
    sixteen!(round, 0);
    for t in [16, 32, 48] {
        sixteen!(both, t);
    }
    for (row, s) in state.iter_mut().zip(s) {
        *row = cast(add!(cast(*row), s));
    }
}

#[inline(always)]
fn transposed(simd: V4, blocks: &[[u8; 64]; LANES]) -> [__m512i; 16] {
    let (f, bw) = (simd.avx512f, simd.avx512bw);
    const SWAP: [u32; 4] = [0x0001_0203, 0x0405_0607, 0x0809_0a0b, 0x0c0d_0e0f];
    let swap: __m512i = cast([SWAP; 4]);
    let mut r = [swap; 16];
    for (r, block) in r.iter_mut().zip(blocks) {
        *r = bw._mm512_shuffle_epi8(cast(*block), swap);
    }
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = f._mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = f._mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for g in 0..4 {
        u[4 * g] = f._mm512_unpacklo_epi64(t[4 * g], t[4 * g + 2]);
        u[4 * g + 1] = f._mm512_unpackhi_epi64(t[4 * g], t[4 * g + 2]);
        u[4 * g + 2] = f._mm512_unpacklo_epi64(t[4 * g + 1], t[4 * g + 3]);
        u[4 * g + 3] = f._mm512_unpackhi_epi64(t[4 * g + 1], t[4 * g + 3]);
    }
    let mut w = u;
    for j in 0..4 {
        let a = f._mm512_shuffle_i32x4::<0x88>(u[j], u[4 + j]);
        let b = f._mm512_shuffle_i32x4::<0x88>(u[8 + j], u[12 + j]);
        let c = f._mm512_shuffle_i32x4::<0xdd>(u[j], u[4 + j]);
        let d = f._mm512_shuffle_i32x4::<0xdd>(u[8 + j], u[12 + j]);
        w[j] = f._mm512_shuffle_i32x4::<0x88>(a, b);
        w[8 + j] = f._mm512_shuffle_i32x4::<0xdd>(a, b);
        w[4 + j] = f._mm512_shuffle_i32x4::<0x88>(c, d);
        w[12 + j] = f._mm512_shuffle_i32x4::<0xdd>(c, d);
    }
    w
}
