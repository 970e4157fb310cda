//! Files that bear a commit's name and say that they cannot be read here: of a newer format, under a vault key that is not
//! open, or with features that are not known.
//!
//! The features stand in the verified last page: who says so holds the vault key, and nobody may pass over that commit for an
//! older one. Where its vault key was replaced, its writer may be one who lost it, and it counts as the others do.
//!
//! The header that says the others is in the clear, and nobody vouches for it. Such a file may be the newest commit, and every other
//! device would refuse what is written beside that; or anybody may have put it there. So nothing is written while it is there
//! and cannot be read, until a person has said of this very file that it does not count ([`DeviceState::set_aside`]). Of
//! that file alone: a device that was once deceived must not write on when the vault key is truly replaced.

use std::fmt;

use super::device::DeviceState;
use crate::format::{DeviceId, EpochId, FormatError, Sequence};
use crate::segments::{BlockError, Segments};
use crate::store::FilePath;

/// How many files can be set aside: more nobody leaves in the folder.
pub const SET_ASIDE_MAX: usize = 1000;

/// A meta segment that may be its device's newest commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnopenedCommit {
    /// Under whose name it lies.
    pub device: DeviceId,
    /// Its place in that device's sequence, as its name says.
    pub sequence: Sequence,
    /// Its file.
    pub file: FilePath,
    /// Why it cannot be read.
    pub why: WhyUnopened,
}

/// What the header of such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyUnopened {
    /// It is under the vault key of this epoch.
    Epoch(EpochId),
    /// It is of a newer format: in words.
    Newer(String),
    /// It is a commit of this vault, and needs features to be read that this version does not know.
    Features {
        /// Under whose vault key it is.
        epoch: EpochId,
        /// In words.
        detail: String,
    },
}

impl UnopenedCommit {
    /// Looks whether a file of a segment that could not be read is such a one. One too short to be a commit is not looked at.
    pub(super) fn find(
        segments: &Segments,
        device: DeviceId,
        sequence: Sequence,
        segment: crate::format::SegmentId,
        error: &BlockError,
    ) -> Option<Self> {
        let why = match error {
            BlockError::Newer { source: FormatError::UnknownFeatures { .. }, .. } => {
                WhyUnopened::Features { epoch: segments.epoch_of(segment)?, detail: error.to_string() }
            }
            BlockError::Newer { .. } => WhyUnopened::Newer(error.to_string()),
            _ => WhyUnopened::Epoch(segments.closed_epoch(segment)?),
        };
        Some(Self { device, sequence, file: segments.locate(segment)?.path, why })
    }

    /// Whether a newer version of this program wrote it, as it says.
    pub fn is_newer(&self) -> bool {
        matches!(self.why, WhyUnopened::Newer(_) | WhyUnopened::Features { .. })
    }

    /// Whether one who may write the vault wrote it.
    pub fn is_authentic(&self) -> bool {
        matches!(self.why, WhyUnopened::Features { .. })
    }

    /// Takes the authority from a commit whose vault key was replaced.
    pub(super) fn judge_epoch(&mut self, is_replaced: impl Fn(EpochId) -> bool) {
        if let WhyUnopened::Features { epoch, detail } = &mut self.why
            && is_replaced(*epoch)
        {
            self.why = WhyUnopened::Newer(std::mem::take(detail));
        }
    }

    /// Whether a person has said that it does not count.
    pub fn is_set_aside(&self, own: Option<&DeviceState>) -> bool {
        !self.is_authentic() && own.is_some_and(|own| own.set_aside.contains(&self.file.name))
    }
}

impl fmt::Display for UnopenedCommit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, file, why, .. } = self;
        match why {
            WhyUnopened::Newer(what) | WhyUnopened::Features { detail: what, .. } => {
                write!(formatter, "the commit of device {device} in {}: {what}", file.name)
            }
            WhyUnopened::Epoch(epoch) => write!(
                formatter,
                "device {device} has written under a newer vault key (epoch {epoch}), which this slot does not have, in {}: its \
                 key file has not arrived, or the slot was removed",
                file.name
            ),
        }
    }
}
