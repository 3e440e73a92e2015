"""Every key that ODCS 3.1 knows and what becomes of it here: enforced, shown or refused. docs/contract.md's table is made from this one."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

Fate = Literal["enforced", "shown", "refused"]


class Key(NamedTuple):
    """What becomes of a key, and how or why, in a sentence; a refused one's sentence is the remedy."""

    fate: Fate
    said: str


def _e(said: str) -> Key:
    return Key("enforced", said)


def _s(said: str = "") -> Key:
    return Key("shown", said)


def _r(said: str) -> Key:
    return Key("refused", said)


_ROW = "a rule of every row; who breaks it is quarantined as `<column>:<option>`"
_WHEN = "rules are judged when a batch is refined, and status is told when it is asked; leave it out"
_INSIDE = "an object or array is kept as its text and nothing in it is judged; make its fields columns by `from`"

# A path's `[]` is an item of a list. What stands below a key that is shown or refused has its fate, unless it stands here too.
KEYS: dict[str, Key] = {
    "apiVersion": _e("`v3.1.0`"),
    "kind": _e("`DataContract`"),
    "id": _e("the dataset's name in every zone: `[a-z][a-z0-9_]{0,62}`"),
    "name": _s("the title people read"),
    "version": _s("required by ODCS, not interpreted"),
    "status": _s("required by ODCS, not interpreted"),
    "tenant": _s(),
    "tags": _s(),
    "domain": _s(),
    "dataProduct": _s(),
    "description": _s("its purpose is the dataset's description where the table has none"),
    "description.purpose": _s("the dataset's description where the table has none"),
    "authoritativeDefinitions": _s(),
    "contractCreatedTs": _s(),
    "support": _s(),
    "price": _s("of a call to the source where `priceUnit` is `call`: `plan` and `backfill` say what their calls cost"),
    "team": _s(),
    "roles": _r("there are no users and no grants yet; leave it out"),
    "servers": _r("where a lake lies is said in assay.toml; leave it out"),
    "slaDefaultElement": _r("it went away with ODCS 3.1; a promise says its own element"),
    "slaProperties": _e("[promises of time](#promises-of-time)"),
    "slaProperties[].id": _s(),
    "slaProperties[].property": _e("`latency` (`freshness`) and `frequency` are told by `assay status` when they are broken; `retention` is refused; others are shown"),
    "slaProperties[].value": _e("a number, for `latency` and `frequency`"),
    "slaProperties[].valueExt": _r("no promise here has two values; leave it out"),
    "slaProperties[].unit": _e("`d`, `h`, `m` or `s`, in words too"),
    "slaProperties[].element": _e("the table's name; what is measured is when it was last captured"),
    "slaProperties[].driver": _s(),
    "slaProperties[].description": _s(),
    "slaProperties[].scheduler": _r(_WHEN),
    "slaProperties[].schedule": _r(_WHEN),
    "customProperties": _e("[words of ours](#customproperties-of-the-contract)"),
    "customProperties[].property": _e("one of ours; another is refused"),
    "customProperties[].value": _e("what it says"),
    "customProperties[].id": _s(),
    "customProperties[].description": _s(),
    "schema": _e("exactly one table"),
    "schema[].id": _s(),
    "schema[].name": _e("as the contract's `id`"),
    "schema[].description": _s("travels to the tables, the API and the console"),
    "schema[].businessName": _s(),
    "schema[].dataGranularityDescription": _s(),
    "schema[].authoritativeDefinitions": _s(),
    "schema[].tags": _s(),
    "schema[].logicalType": _e("`object`"),
    "schema[].physicalType": _e("`table`"),
    "schema[].physicalName": _r("the table is called as the contract's id; leave it out"),
    "schema[].relationships": _r("a batch does not see another table; a test of gold does (`relationships`)"),
    "schema[].customProperties": _r("say it in the contract's customProperties, or a column's"),
    "schema[].properties": _e("the columns"),
    "schema[].properties[].id": _s(),
    "schema[].properties[].name": _e("the column in silver and after it"),
    "schema[].properties[].description": _s("travels to the tables, the API and the console"),
    "schema[].properties[].businessName": _s(),
    "schema[].properties[].authoritativeDefinitions": _s(),
    "schema[].properties[].tags": _s(),
    "schema[].properties[].examples": _s(),
    "schema[].properties[].criticalDataElement": _s(),
    "schema[].properties[].transformSourceObjects": _s(),
    "schema[].properties[].transformLogic": _s(),
    "schema[].properties[].transformDescription": _s(),
    "schema[].properties[].logicalType": _e("`string`, `integer`, `number`, `boolean`, `date`, `timestamp` (UTC, microseconds), `object` or `array` ([a JSON value](#objects-and-arrays), as text); no `time`"),
    "schema[].properties[].physicalType": _e("of a `number`: `decimal(precision,scale)`, precision at most 38, doubles are not stored; of another, the type that silver has"),
    "schema[].properties[].physicalName": _r("where a record has the value is said by the customProperty from"),
    "schema[].properties[].required": _e("a row without a value is quarantined"),
    "schema[].properties[].unique": _e("[no value in two rows](#unique-values)"),
    "schema[].properties[].primaryKey": _e("the key that versions belong to; its columns are required"),
    "schema[].properties[].primaryKeyPosition": _e("from 1, each once: the order of the key's columns"),
    "schema[].properties[].partitioned": _r("partitions are said by the customProperty partitioning of the contract"),
    "schema[].properties[].partitionKeyPosition": _r("partitions are said by the customProperty partitioning of the contract"),
    "schema[].properties[].classification": _e("`public`, `internal`, `confidential` or `restricted`, on every column"),
    "schema[].properties[].encryptedName": _r("nothing is encrypted column by column; leave it out"),
    "schema[].properties[].relationships": _r("a batch does not see another table; a test of gold does (`relationships`)"),
    "schema[].properties[].customProperties": _e("[words of ours](#customproperties-of-a-column)"),
    "schema[].properties[].customProperties[].property": _e("one of ours; another is refused"),
    "schema[].properties[].customProperties[].value": _e("what it says"),
    "schema[].properties[].customProperties[].id": _s(),
    "schema[].properties[].customProperties[].description": _s(),
    "schema[].properties[].properties": _r(_INSIDE),
    "schema[].properties[].items": _r(_INSIDE),
    "schema[].properties[].logicalTypeOptions": _e("[what its values may be](#options-of-a-type)"),
    "schema[].properties[].logicalTypeOptions.minLength": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.maxLength": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.pattern": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.format": _e("of a `string`, one of some formats, and of an `integer` its bits: " + _ROW + "; of a `date`, how it is read: `yyyy-MM-dd`, or the same as the customProperty `format`; others are refused"),
    "schema[].properties[].logicalTypeOptions.minimum": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.maximum": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.exclusiveMinimum": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.exclusiveMaximum": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.multipleOf": _e(_ROW),
    "schema[].properties[].logicalTypeOptions.timezone": _e("`true`: silver's times are instants; `false` is refused"),
    "schema[].properties[].logicalTypeOptions.defaultTimezone": _e("as the customProperty `zone`"),
    "schema[].properties[].logicalTypeOptions.minProperties": _r(_INSIDE),
    "schema[].properties[].logicalTypeOptions.maxProperties": _r(_INSIDE),
    "schema[].properties[].logicalTypeOptions.required": _r(_INSIDE),
    "schema[].properties[].logicalTypeOptions.minItems": _r(_INSIDE),
    "schema[].properties[].logicalTypeOptions.maxItems": _r(_INSIDE),
    "schema[].properties[].logicalTypeOptions.uniqueItems": _r(_INSIDE),
    "schema[].quality": _e("[rules](#rules-of-quality), of the table or of a column"),
    "schema[].quality[].id": _s(),
    "schema[].quality[].name": _e("the reason in quarantine; without it a metric's is `<column>:<metric>`"),
    "schema[].quality[].description": _s("beside the rule; of `type: text` all there is"),
    "schema[].quality[].type": _e("`library`, `custom` or `text`, which is shown alone; `sql` is refused: a query could read what a batch is not"),
    "schema[].quality[].metric": _e("`nullValues`, `missingValues`, `invalidValues`, `duplicateValues`, `rowCount`"),
    "schema[].quality[].arguments": _e("`missingValues`, `validValues`, `pattern` or `properties`, each of its metric"),
    "schema[].quality[].rule": _r("it is called metric since ODCS 3.1"),
    "schema[].quality[].query": _r("a query is judged by no batch; say engine: assay and a boolean expression, or test it in gold"),
    "schema[].quality[].engine": _e("`assay`"),
    "schema[].quality[].implementation": _e("a boolean expression over the row's columns"),
    "schema[].quality[].mustBe": _e("of a metric: `0`, and of `rowCount` any"),
    "schema[].quality[].mustNotBe": _r("a batch is held for too much or too little; say a bound"),
    "schema[].quality[].mustBeLessThan": _e("of a metric: more in a batch holds it"),
    "schema[].quality[].mustBeLessOrEqualTo": _e("of a metric or rule: more in a batch holds it"),
    "schema[].quality[].mustBeGreaterThan": _e("of `rowCount`: fewer hold the batch"),
    "schema[].quality[].mustBeGreaterOrEqualTo": _e("of `rowCount`: fewer hold the batch"),
    "schema[].quality[].mustBeBetween": _e("of `rowCount`: others hold the batch; the bounds are allowed"),
    "schema[].quality[].mustNotBeBetween": _r("a batch is held for too much or too little; say a bound"),
    "schema[].quality[].unit": _e("`rows` or `percent`"),
    "schema[].quality[].severity": _e("`error` quarantines the row, `warning` only counts it"),
    "schema[].quality[].dimension": _s(),
    "schema[].quality[].method": _s(),
    "schema[].quality[].businessImpact": _s(),
    "schema[].quality[].tags": _s(),
    "schema[].quality[].authoritativeDefinitions": _s(),
    "schema[].quality[].scheduler": _r(_WHEN),
    "schema[].quality[].schedule": _r(_WHEN),
    "schema[].quality[].customProperties": _e("[words of ours](#customproperties-of-a-rule)"),
    "schema[].quality[].customProperties[].property": _e("one of ours; another is refused"),
    "schema[].quality[].customProperties[].value": _e("what it says"),
    "schema[].quality[].customProperties[].id": _s(),
    "schema[].quality[].customProperties[].description": _s(),
}  # fmt: skip

# names of what stands below a key that is shown
_MEMBER = (
    "id username name description role dateIn dateOut replacedByUsername tags customProperties authoritativeDefinitions"
)
_BELOW = {
    "authoritativeDefinitions[]": "id url type description",
    "customProperties[]": "id property value description",
    "description": "usage purpose limitations authoritativeDefinitions customProperties",
    "price": "id priceAmount priceCurrency priceUnit",
    "support[]": "id channel url description tool scope invitationUrl customProperties",
    "team": "id name description members tags customProperties authoritativeDefinitions",
    "team[]": _MEMBER,
    "members[]": _MEMBER,
}


def meaning(path: str) -> Key | None:
    """What becomes of a key, such as `schema[].properties[].unique`; None if ODCS 3.1 has none of that name there."""
    path = path.replace("schema[].properties[].quality", "schema[].quality")
    if path in KEYS:
        return KEYS[path]
    above, _, name = path.rpartition(".")
    own = next((KEYS[one] for one in _above(path) if one in KEYS), None)
    if own is None or own.fate == "refused":
        return own
    return own if own.fate == "shown" and name in names(above) else None


def names(path: str) -> set[str]:
    """The names that may stand below a key; `""` is the contract itself."""
    path = path.replace("schema[].properties[].quality", "schema[].quality")
    begin = f"{path}." if path else ""
    told = {one.removeprefix(begin) for one in KEYS if one.startswith(begin)}
    item = path.rpartition(".")[2]
    below = _BELOW.get(item if item.endswith("[]") else path, "").split()
    return {one for one in told if not set(one) & {".", "["}} | set(below)


def _above(path: str) -> Iterator[str]:
    """The keys that a key stands below, nearest first."""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path
        yield path.removesuffix("[]")
