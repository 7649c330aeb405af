//! The shape of the tree: tiered, leveled, lazy-leveled are three settings.
use crate::manifest::StoredShape;
impl StoredShape {
    pub fn leveled() -> Self { todo!() }
    pub fn tiered() -> Self { todo!() }
    pub fn lazy_leveled() -> Self { todo!() }
}
