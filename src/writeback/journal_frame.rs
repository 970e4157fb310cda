//! What the next frame of a journal says: all that has changed since the last one.

use super::journal_state::GenerationJournal;
use crate::format::items::ExtentRecord;
use crate::format::journal::JournalRecord;
use crate::format::{ByteWriter, CommitNumber, Key, KeyKind};
use crate::state::dirty::BlockAddress;
use crate::state::layers::Layers;
use crate::state::overlay::Unjournaled;

/// What the next frame says.
pub(crate) struct Records {
    pub bytes: Vec<u8>,
    /// Some of it points to data in segments.
    pub points: bool,
    /// It is the first of a file, and that follows one that may not be durable.
    pub follows: bool,
    /// All operations of the generation are written with it.
    pub ends: bool,
}

/// The records of the next frame; `None` where there is nothing to say.
pub(crate) fn take_records(
    layers: &Layers,
    number: CommitNumber,
    kept: &GenerationJournal,
    follows: Option<CommitNumber>,
) -> Option<Records> {
    let block_bytes = layers.context.block_bytes as u64;
    let (bases, changed, data, is_frozen) = {
        let mut state = layers.write();
        let is_frozen = state.current.number != number;
        let bases = state.bases_of(number, layers.context.device);
        let generation = state.generation_mut(number)?;
        let changed = match kept.rewrite {
            true => generation.overlay.everything(),
            false => generation.overlay.take_unjournaled(),
        };
        if kept.rewrite {
            generation.dirty.mark_unjournaled();
        }
        let mut data = ByteWriter::with_capacity(generation.dirty.unjournaled_bytes());
        generation.dirty.take_unjournaled(|(inode, block): BlockAddress, start, bytes| {
            let offset = block * block_bytes + start as u64;
            JournalRecord::Data { inode, offset, bytes }.encode(&mut data);
        });
        (bases, changed, data.finish(), is_frozen)
    };
    let mut writer = ByteWriter::with_capacity(data.len());
    let is_first = kept.rewrite || kept.journal.is_none();
    if is_first {
        bases.iter().for_each(|base| JournalRecord::Base(*base).encode(&mut writer));
        follows.into_iter().for_each(|below| JournalRecord::Follows(below).encode(&mut writer));
    }
    let nothing_said = writer.len();
    if kept.rewrite {
        let first = if kept.after_replay { JournalRecord::ResetAll } else { JournalRecord::Reset };
        first.encode(&mut writer);
        // Synced before this is written.
        JournalRecord::Durable { frames: 1 }.encode(&mut writer);
    }
    encode_items(&mut writer, &changed);
    // Behind the items: an extent drops what was written to its block before.
    writer.put(&data);
    let points = changed.items.iter().any(|(key, value)| is_pointer(key, value.as_deref()));
    let says_something = writer.len() > nothing_said || kept.journal.is_some();
    let ends = is_frozen && says_something && (kept.rewrite || !kept.has_end);
    if ends {
        JournalRecord::End.encode(&mut writer);
    }
    let follows = is_first && follows.is_some();
    (writer.len() > nothing_said).then(|| Records { bytes: writer.finish(), points, follows, ends })
}

/// Whether an item leads to data in a segment.
fn is_pointer(key: &Key, value: Option<&[u8]>) -> bool {
    let record = value.filter(|_| key.kind == KeyKind::Extent).map(ExtentRecord::decode);
    matches!(record, Some(Ok(ExtentRecord::Stored(_))))
}

fn encode_items(writer: &mut ByteWriter, changed: &Unjournaled) {
    for (first, last) in &changed.ranges {
        JournalRecord::RemoveRange(*first, *last).encode(writer);
    }
    for (key, value) in &changed.items {
        match value {
            Some(value) => JournalRecord::Put(*key, value).encode(writer),
            None => JournalRecord::Remove(*key).encode(writer),
        }
    }
}
