//! What the tests do to a volume: operations with their choices as plain numbers, so that any sub-sequence of a
//! sequence of operations makes sense too, and a failing sequence can be shortened.

use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::volume::{Allocate, FileKind, RenameMode, SetExtendedAttribute};

/// Which of the nodes there are: the number modulo their count.
pub type Which = usize;

/// One operation. Names are indices into [`NAMES`](super::driver::name).
#[derive(Debug, Clone, Copy)]
pub enum Operation {
    Create {
        directory: Which,
        name: usize,
        keep_open: bool,
    },
    MakeDirectory {
        directory: Which,
        name: usize,
    },
    MakeNode {
        directory: Which,
        name: usize,
        kind: FileKind,
    },
    MakeSymlink {
        directory: Which,
        name: usize,
        bytes: usize,
    },
    Link {
        file: Which,
        directory: Which,
        name: usize,
    },
    Unlink {
        directory: Which,
        name: usize,
    },
    RemoveDirectory {
        directory: Which,
        name: usize,
    },
    Rename {
        from: (Which, usize),
        to: (Which, usize),
        mode: RenameMode,
    },
    Write {
        file: Which,
        offset: usize,
        length: usize,
        fill: Fill,
    },
    Append {
        file: Which,
        length: usize,
        fill: Fill,
    },
    Truncate {
        file: Which,
        size: usize,
    },
    Allocate {
        file: Which,
        what: Allocate,
        offset: usize,
        length: usize,
    },
    Copy {
        source: Which,
        from: usize,
        target: Which,
        to: usize,
        length: usize,
    },
    SetMode {
        node: Which,
        permissions: u16,
    },
    SetOwner {
        node: Which,
        user: u32,
    },
    SetTimes {
        node: Which,
        seconds: i64,
    },
    SetExtended {
        node: Which,
        name: usize,
        bytes: usize,
        mode: SetExtendedAttribute,
    },
    RemoveExtended {
        node: Which,
        name: usize,
    },
    Open {
        file: Which,
    },
    Close {
        handle: Which,
    },
    Sync {
        node: Which,
    },
    Publish,
    Look,
    /// Closed as at unmount, and opened again.
    Reopen,
    /// The process is killed, and another opens the volume.
    Kill,
    /// The same after a power loss.
    PowerLoss {
        seed: u64,
    },
}

/// What is written.
#[derive(Debug, Clone, Copy)]
pub enum Fill {
    Zeros,
    /// What is there already.
    Same,
    /// The same byte all over.
    Byte(u8),
    /// Noise that no compressor shortens.
    Noise(u64),
}

/// Draws operations.
pub struct Generator {
    randomness: SeededRandomness,
    block_bytes: usize,
}

impl Generator {
    pub fn new(seed: u64, block_bytes: usize) -> Self {
        Self { randomness: SeededRandomness::new(seed), block_bytes }
    }

    fn below(&self, bound: usize) -> usize {
        (self.randomness.u64() % bound as u64) as usize
    }

    fn one_of<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A length or an offset: mostly at or near a border of blocks.
    fn place(&self, blocks: usize) -> usize {
        let border = self.below(blocks + 1) * self.block_bytes;
        match self.below(4) {
            0 => border,
            1 => (border + self.below(5)).saturating_sub(2),
            2 => border + self.below(self.block_bytes),
            _ => self.below(3000),
        }
    }

    fn fill(&self) -> Fill {
        match self.below(8) {
            0 | 1 => Fill::Zeros,
            2 => Fill::Same,
            3 | 4 => Fill::Byte(self.below(255) as u8 + 1),
            _ => Fill::Noise(self.randomness.u64()),
        }
    }

    fn place_in_tree(&self) -> (Which, usize) {
        (self.below(64), self.below(8))
    }

    /// `count` operations.
    pub fn operations(&self, count: usize) -> Vec<Operation> {
        (0..count).map(|_| self.operation()).collect()
    }

    fn operation(&self) -> Operation {
        let (directory, name) = self.place_in_tree();
        let file = self.below(64);
        match self.below(100) {
            0..8 => Operation::Create { directory, name, keep_open: self.below(4) == 0 },
            8..12 => Operation::MakeDirectory { directory, name },
            12 => {
                let kind = self.one_of(&[FileKind::Pipe, FileKind::Socket, FileKind::CharacterDevice]);
                Operation::MakeNode { directory, name, kind }
            }
            13 => Operation::MakeSymlink { directory, name, bytes: self.one_of(&[1, 60, 2047, 2049, 4095]) },
            14..17 => Operation::Link { file, directory, name },
            17..21 => Operation::Unlink { directory, name },
            21..23 => Operation::RemoveDirectory { directory, name },
            23..28 => {
                let modes = [RenameMode::Replace, RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange];
                Operation::Rename { from: (directory, name), to: self.place_in_tree(), mode: self.one_of(&modes) }
            }
            28..46 => Operation::Write { file, offset: self.place(8), length: self.place(3), fill: self.fill() },
            46..51 => Operation::Append { file, length: self.place(2), fill: self.fill() },
            51..58 => Operation::Truncate { file, size: self.place(8) },
            58..66 => {
                let all = [
                    Allocate::PunchHole,
                    Allocate::PunchHole,
                    Allocate::Zero,
                    Allocate::ZeroKeepSize,
                    Allocate::Reserve,
                    Allocate::ReserveKeepSize,
                    Allocate::Collapse,
                    Allocate::Insert,
                ];
                let (what, mut offset, mut length) = (self.one_of(&all), self.place(6), self.place(3));
                if matches!(what, Allocate::Collapse | Allocate::Insert) && self.below(8) > 0 {
                    offset -= offset % self.block_bytes;
                    length = (1 + self.below(2)) * self.block_bytes;
                }
                Operation::Allocate { file, what, offset, length }
            }
            66..71 => {
                let (mut from, mut to) = (self.place(4), self.place(4));
                if self.below(2) == 0 {
                    (from, to) = (from - from % self.block_bytes, to - to % self.block_bytes);
                }
                Operation::Copy { source: file, from, target: self.below(64), to, length: self.place(6) }
            }
            71 => Operation::SetMode { node: file, permissions: self.below(0o1000) as u16 },
            72 => Operation::SetOwner { node: file, user: self.below(5) as u32 },
            73 => Operation::SetTimes { node: file, seconds: self.below(1 << 32) as i64 - (1 << 31) },
            74..77 => {
                let modes = [SetExtendedAttribute::Any, SetExtendedAttribute::Create, SetExtendedAttribute::Replace];
                let bytes = self.one_of(&[0, 1, 100, 2047, 2049, 9000]);
                Operation::SetExtended { node: file, name: self.below(3), bytes, mode: self.one_of(&modes) }
            }
            77 => Operation::RemoveExtended { node: file, name: self.below(3) },
            78..80 => Operation::Open { file },
            80..83 => Operation::Close { handle: file },
            83..90 => Operation::Sync { node: file },
            90..93 => Operation::Publish,
            93 | 94 => Operation::Look,
            95 => Operation::Reopen,
            96 | 97 => Operation::Kill,
            _ => Operation::PowerLoss { seed: self.randomness.u64() },
        }
    }
}
