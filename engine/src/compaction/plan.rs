//! Picking: a pure function from a version to a plan.
use crate::{manifest::View, store::ObjectId};
/// What to merge, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan { /// newest run first
    pub inputs: Vec<(u64, Vec<ObjectId>)>, pub level: u32, /// no older data for these keys lies anywhere else
    pub bottom: bool, /// only the manifest changes
    pub moved: bool, pub reason: Reason }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason { L0, Runs, Size, Tombstones, Expiry, Manual }
/// The most urgent plan, or None when nothing is due.
pub fn pick(view: &View, now_ms: u64) -> Option<Plan> { todo!() }
/// Everything into one bottom run; None when it is already so.
pub fn pick_all(view: &View) -> Option<Plan> { todo!() }
