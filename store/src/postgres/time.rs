//! Points in time as PostgreSQL's `timestamptz`.
//!
//! The crate `jiff-sqlx` does the same, but its last release is for jiff 0.2. This module goes when there is one for 1.0.

use jiff::{SignedDuration, Timestamp};
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueFormat, PgValueRef, Postgres};
use sqlx::types::Type;
use sqlx::{Decode, postgres::types::Oid};

/// 2000-01-01T00:00:00Z: PostgreSQL counts microseconds from there.
const EPOCH: Timestamp = Timestamp::constant(946_684_800, 0);

/// The numbers that PostgreSQL has for `timestamptz` and `timestamptz[]`.
const TIMESTAMPTZ: Oid = Oid(1184);
const TIMESTAMPTZ_ARRAY: Oid = Oid(1185);

/// A point in time on its way to the database or from it, in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SqlTimestamp(Timestamp);

impl SqlTimestamp {
    pub(super) fn to_jiff(self) -> Timestamp {
        self.0
    }
}

/// What can be bound to a query after a conversion.
pub(super) trait ToSqlx {
    type Target;
    fn to_sqlx(self) -> Self::Target;
}

impl ToSqlx for Timestamp {
    type Target = SqlTimestamp;
    fn to_sqlx(self) -> SqlTimestamp {
        SqlTimestamp(self)
    }
}

impl Type<Postgres> for SqlTimestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl PgHasArrayType for SqlTimestamp {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ_ARRAY)
    }
}

impl Encode<'_, Postgres> for SqlTimestamp {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let micros = i64::try_from(self.0.duration_since(EPOCH).as_micros())?;
        Encode::<Postgres>::encode(micros, buffer)
    }
}

impl Decode<'_, Postgres> for SqlTimestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        match value.format() {
            PgValueFormat::Binary => {
                let micros = Decode::<Postgres>::decode(value)?;
                Ok(Self(EPOCH.checked_add(SignedDuration::from_micros(micros))?))
            }
            PgValueFormat::Text => Ok(Self(value.as_str()?.parse()?)),
        }
    }
}
