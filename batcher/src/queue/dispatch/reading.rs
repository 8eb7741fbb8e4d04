//! Reads requests whose meaning rests on the model's metadata (V1, raw binary bodies) again when they are sent, by the
//! metadata of the model server that they are sent to: when they arrived, it may have been unknown or another one.

// A request is several hundred bytes and changes hands often: its box is moved, not the request.
#![allow(clippy::vec_box)]

use std::collections::VecDeque;

use super::Dispatch;
use crate::offload::offload;
use crate::queue::{Entry, size_of};

impl Dispatch {
    /// Reads those requests again that were read by other metadata than the model server's. Returns the first group that can
    /// still share a batch; the other groups are put before `groups`.
    pub(super) async fn read_anew(
        &self,
        entries: Vec<Box<Entry>>,
        groups: &mut VecDeque<Vec<Box<Entry>>>,
    ) -> Vec<Box<Entry>> {
        let Some(slot) = &self.slot else { return entries };
        let signature = slot.profile.signature.as_ref();
        if !entries.iter().any(|entry| entry.is_read_by_other_than(signature)) {
            return entries;
        }
        let signature = signature.cloned();
        let settings = self.handle.settings.now();
        let own = settings.batching.of_model(&self.handle.model);
        let most_tokens = own.max_batch_tokens.unwrap_or(u64::MAX);
        let mut read: Vec<Vec<Box<Entry>>> = Vec::new();
        for mut entry in entries {
            if entry.is_read_by_other_than(signature.as_ref()) {
                let signature = signature.clone();
                entry = offload(entry.body().len(), move || {
                    entry.read_by(signature);
                    entry
                })
                .await;
                entry.size = size_of(&entry.work, &own);
            }
            let tokens = |group: &[Box<Entry>]| group.iter().map(|entry| entry.size.tokens).sum::<u64>();
            let fitting = read.iter_mut().find(|group| {
                group.first().is_some_and(|first| first.may_go_with(&entry))
                    && tokens(group).saturating_add(entry.size.tokens) <= most_tokens
            });
            match fitting {
                Some(group) => group.push(entry),
                None => read.push(vec![entry]),
            }
        }
        let mut read = read.into_iter();
        let first = read.next().unwrap_or_default();
        read.rev().for_each(|group| groups.push_front(group));
        first
    }
}
