"""A model's file is read within bounds and believed in nothing: tensors, card and task must be what each other says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfl.errors import P2PFLError
from p2pfl.errors.federation import TableUnfit
from p2pfl.errors.models import CardUnfit, ModelFileBroken, NoCard, NotLinear
from p2pfl.errors.training import ModelMisfit
from p2pfl.federation.table_facts import decimal_text, facts_of, schema_of
from p2pfl.federation.table_schema import TableSchema
from p2pfl.federation.task_choice import TaskChoice
from p2pfl.training.model import checkpoint
from p2pfl.training.model.card import KEY, ModelCard
from p2pfl.training.model.file import MOST_HEADER, ModelFile, model_file
from p2pfl.training.model.linear_weights import weights_of
from p2pfl.training.model.personal import PersonalState, divided
from p2pfl.training.models import build
from p2pfl.training.tasks import heart
from p2pfl.training.tasks.table import TableTask
from p2pfl.training.update import TensorLayout
from tests.examples import examples
from tests.federation.sample import ASKED, LABELLED, TABLE
from tests.training.cards import HEX, card_facts, header_of, layout_of, made, with_header

SCHEMAS = [TableSchema.parse(raw, "task.yaml") for raw in (heart.TEXT, TABLE, *LABELLED, TABLE + ASKED)]


WHOLE = made()


def read(data: bytes) -> ModelFile:
    return ModelFile.read(data, "model.safetensors")


def test_a_file_that_was_written_is_read_as_it_was() -> None:
    data = made()
    found = read(data)
    assert found.card is not None
    assert found.card.task.table == heart.heart()
    assert found.layout == build(TableTask(heart.heart())).layout == layout_of(heart.heart())
    assert np.array_equal(found.vector, checkpoint.from_bytes(data, found.layout))  # the library reads the same
    assert found.digest.hex() == found.card.facts["model"]["digest"]


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda one: one.label.summary)
def test_a_table_described_in_a_card_is_the_table_that_peers_yaml_described(schema: TableSchema) -> None:
    assert schema_of(json.loads(json.dumps(facts_of(schema))), "a card") == schema
    assert read(made(schema)).expect_card().task.table == schema


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_in_a_card_reads_back_as_the_same_float(value: float) -> None:
    assert float(decimal_text(value)) == value


def test_columns_that_are_no_list_or_come_twice_are_told_as_of_the_table() -> None:
    facts = facts_of(heart.heart())
    for columns in ({}, None, [facts["columns"][0]] * 2, [{"number": "years"}], ["age"]):
        with pytest.raises(Exception, match=r"columns") as caught:
            schema_of({**facts, "columns": columns}, "a card")
        assert caught.value.__class__.__module__ == "p2pfl.errors.federation"
    with pytest.raises(TableUnfit):
        schema_of({**facts, "columns": [{**facts["columns"][0], "low": "1e999"}]}, "a card")


# ── hostile files ─────────────────────────────────────────────────────────────────────────────────────────────

Spoil = Callable[[dict[str, Any]], object]

HEADERS: dict[str, Spoil] = {
    "a tensor that begins before the bytes do": lambda h: h["bias"].update(data_offsets=[-4, 0]),
    "a tensor that ends behind the bytes": lambda h: h["bias"].update(data_offsets=[0, 1 << 40]),
    "two tensors in one place": lambda h: h["bias"].update(data_offsets=[0, 4]),
    "a shape that is larger than its bytes": lambda h: h["weight"].update(shape=[1 << 40, 1 << 40]),
    "a shape of a truth value": lambda h: h["bias"].update(shape=[True]),
    "a shape that is a word": lambda h: h["bias"].update(shape="1"),
    "a shape of many axes": lambda h: h["bias"].update(shape=[1] * 9),
    "another type": lambda h: h["bias"].update(dtype="BF16"),
    "no type": lambda h: h["bias"].pop("dtype"),
    "no place": lambda h: h["bias"].pop("data_offsets"),
    "a tensor that is none": lambda h: h.update(bias=7),
    "one tensor less than bytes": lambda h: h.pop("bias"),
    "a tensor's name that steers a terminal": lambda h: h.update({"\x1b[2J": h.pop("bias")}),
}


@pytest.mark.claim("MODEL-1")
@pytest.mark.parametrize("name", HEADERS)
def test_a_header_that_lies_about_its_tensors_is_refused(name: str) -> None:
    data, header = made(), header_of(made())
    HEADERS[name](header)
    with pytest.raises(ModelFileBroken):
        read(with_header(data, header))


@pytest.mark.claim("MODEL-1")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95pickle.",
        (1 << 60).to_bytes(8, "little") + b"{}",
        (MOST_HEADER + 1).to_bytes(8, "little") + bytes(MOST_HEADER + 1),
        with_header(made(), b"[" * 200_000),
        with_header(made(), b'{"a":1,"a":1}'),
        with_header(made(), b"[]"),
        with_header(made(), b"\xff\xfe"),
        made()[:-1],
        made() + b"\0",
    ],
    ids=[
        "nothing",
        "a pickle",
        "a header of 2⁶⁰",
        "a large one",
        "a deep one",
        "twice",
        "a list",
        "no text",
        "cut",
        "more",
    ],
)
def test_what_is_no_safetensors_file_is_refused_before_it_takes_memory(data: bytes) -> None:
    with pytest.raises(ModelFileBroken):
        read(data)


@pytest.mark.claim("MODEL-1")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused(value: float) -> None:
    data = bytearray(made())
    data[-4:] = np.float32(value).tobytes()
    with pytest.raises(ModelFileBroken, match="can be used"):
        read(bytes(data))


@pytest.mark.claim("MODEL-1")
def test_a_card_of_other_weights_is_refused() -> None:
    """One bit of one weight suffices, and so does the card of another model of the same task."""
    data = bytearray(made())
    data[-4] ^= 1
    with pytest.raises(CardUnfit, match="does not fit"):
        read(bytes(data))
    other = header_of(made(seed=1))["__metadata__"]
    with pytest.raises(CardUnfit):
        read(with_header(made(), {**header_of(made()), "__metadata__": other}))


CARDS: dict[str, Spoil] = {
    "another version": lambda c: c.update(card=2),
    "a key more": lambda c: c.update(more=1),
    "a key less": lambda c: c.pop("licence"),
    "a name that is none": lambda c: c["federation"].update(name="<script>alert(1)</script>"),
    "a name that reverses a line": lambda c: c["federation"].update(sites=["\u202emayo"]),
    "a licence that is a link": lambda c: c.update(licence="[free](http://x)"),
    "software of several lines": lambda c: c.update(software="p2pfl\n# Approved by the FDA"),
    "a threshold above 1": lambda c: c.update(threshold="1.5"),
    "an ε that is a word": lambda c: c["privacy"].update(epsilon="none"),
    "figures without an end": lambda c: c["metric"]["figures"].update(
        {f"a{n}": c["metric"]["figures"]["auc"] for n in range(300)}
    ),
    "a figure's name of other letters": lambda c: c["metric"]["figures"].update(
        {"AUC |": c["metric"]["figures"]["auc"]}
    ),
    "another table": lambda c: c["task"]["table"]["columns"].pop(),
    "a table that cannot be": lambda c: c["task"]["table"].update(label=[]),
    "a table that is none": lambda c: c["task"].update(table=7),
    "code of another name": lambda c: c.update(task={"file": "../../evil.py", "class": "Evil", "sha256": HEX}),
    "a number that is a map": lambda c: c["training"].update(rounds={}),
    "a digest of another task": lambda c: c.update(task_digest=HEX),
    "a size of other tensors": lambda c: c["model"].update(parameters=1),
}


@pytest.mark.claim("MODEL-1")
@pytest.mark.parametrize("name", CARDS)
def test_a_card_that_says_what_no_card_may_is_refused(name: str) -> None:
    header = header_of(made())
    card = json.loads(header["__metadata__"][KEY])
    CARDS[name](card)
    header["__metadata__"][KEY] = json.dumps(card, sort_keys=True, separators=(",", ":"))
    with pytest.raises(CardUnfit):
        read(with_header(made(), header))


@pytest.mark.claim("MODEL-1")
@examples(200)
@given(at=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_one_changed_bit_makes_no_other_model_of_a_card(at: int, bit: int) -> None:
    """What may change unseen is what a card says of sites and days, which the ledger says too."""
    data = bytearray(WHOLE)
    data[at] ^= 1 << bit
    try:
        found = read(bytes(data))
    except (ModelFileBroken, CardUnfit):
        return
    assert np.array_equal(found.vector, read(WHOLE).vector)
    assert found.card is None or found.card.facts["model"] == read(WHOLE).expect_card().facts["model"]


def test_a_file_without_a_card_has_a_model_and_says_so() -> None:
    layout = TensorLayout((("weight", (1, 2)), ("bias", (1,))))
    found = read(checkpoint.to_bytes(np.arange(3, dtype=np.float32), layout))
    assert found.layout == layout
    with pytest.raises(NoCard):
        found.expect_card()
    with pytest.raises(ModelMisfit):
        found.fitting(layout_of(heart.heart()))


def test_tensors_in_another_order_are_the_same_model_and_another_file() -> None:
    """The digest tells the order, since the ledger's does; the model is found by names."""
    layout = TensorLayout((("weight", (1, 2)), ("bias", (1,))))
    turned = TensorLayout(tuple(reversed(layout.tensors)))
    found = read(checkpoint.to_bytes(np.array([3, 1, 2], np.float32), turned))
    assert np.array_equal(found.fitting(layout), [1, 2, 3])


def test_the_vector_has_these_digests_and_spoilt_files_end_with_these_codes() -> None:
    vector = json.loads((Path(__file__).parent / "vectors" / "model-file.json").read_text())
    found = read(bytes.fromhex(vector["file"]))
    assert found.digest.hex() == vector["model"]
    assert found.layout.digest.hex() == vector["layout"]
    assert found.expect_card().facts["task_digest"] == vector["task_digest"]
    for one in vector["refused"]:
        with pytest.raises(P2PFLError) as caught:
            read(bytes.fromhex(one["file"]))
        assert caught.value.code == one["code"], one["what"]
    assert {one["code"] for one in vector["refused"]} == {"P2P-TRAIN-120", "P2P-TRAIN-121"}


# ── weights ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("schema", SCHEMAS[1:], ids=lambda one: one.label.summary)
def test_what_a_record_adds_up_to_is_the_models_output(schema: TableSchema) -> None:
    """The twin: encode and multiply."""
    file = read(made(schema))
    found = weights_of(file)
    adds = {(one.column, one.having): np.array(one.adds) for one in found.rows}
    steps = next(row for row in adds if row[0] == "age")
    of_levels = adds[steps] * (62.0 - 50.0) / 30.0 + adds["sex", "male"] + adds["", "every record"]
    task = TableTask(schema)
    x = task.read(b"age,sex\n62,male\n", "new.csv", labelled=False).x.astype(np.float64)
    tensors = file.layout.split(file.vector)
    outputs = (x @ tensors["weight"].T + tensors["bias"])[0]
    if schema.label.summary.startswith("HbA1c"):
        outputs = 40.0 + 10.0 * outputs
    assert np.allclose(of_levels, outputs, atol=1e-5)


def test_every_input_of_heart_has_a_row_with_a_name() -> None:
    rows = weights_of(read(made())).rows
    told = [(one.column, one.having) for one in rows]
    assert len(set(told)) == len(told)
    assert ("age", "each 10 years above 55") in told
    assert {("sex", "0"), ("sex", "1"), ("thal", "6"), ("thal", "not measured"), ("", "every record")} <= set(told)
    by_level = {one.having: one for one in rows if one.column == "sex"}
    assert by_level["0"].adds == (-by_level["1"].adds[0],)


def test_a_network_has_no_weights_of_columns() -> None:
    schema = replace(heart.heart(), hidden=4)
    layout = build(TableTask(schema)).layout
    vector = np.zeros(layout.parameters, np.float32)
    file = read(model_file(layout, vector, ModelCard.of(card_facts(TaskChoice(table=schema), layout, vector))))
    with pytest.raises(NotLinear, match="no weight for each input"):
        weights_of(file)


# ── layers that stay at each site ─────────────────────────────────────────────────────────────────────────────

OWN = {"compression": "none", "personal": ["bias"]}


def without_bias() -> tuple[bytes, PersonalState]:
    """The file that all sites write of heart's model without its bias, and what one of them keeps."""
    shared, personal = divided(layout_of(heart.heart()), ["bias"])
    vector = np.arange(shared.parameters, dtype=np.float32)
    choice = TaskChoice(table=heart.heart())
    training = card_facts(choice, shared, vector)["training"] | OWN
    card = ModelCard.of(card_facts(choice, shared, vector, training=training))
    own = PersonalState(personal, bytes(32), 3, np.zeros(1, np.float32), np.full(1, 0.5, np.float32))
    return model_file(shared, vector, card), own


@pytest.mark.claim("MODEL-1")
def test_a_shared_model_says_what_it_lacks_and_a_whole_one_is_checked_in_part() -> None:
    data, own = without_bias()
    shared = read(data)
    assert shared.lacks == ("bias",)
    with pytest.raises(ModelMisfit) as caught:
        shared.fitting(layout_of(heart.heart()))
    assert "bias" in caught.value.evidence and "--personal" in caught.value.evidence
    whole = shared.with_layers(own)
    again = read(model_file(whole.layout, whole.vector, shared.expect_card()))
    assert again.lacks == ()
    assert again.fitting(layout_of(heart.heart()))[-1] == np.float32(0.5)
    assert weights_of(again).rows[-1].adds == (0.5,)
    with pytest.raises(ModelMisfit):
        again.with_layers(own)
    forged = whole.vector.copy()
    forged[0] += 1.0
    with pytest.raises(CardUnfit):
        read(model_file(whole.layout, forged, shared.expect_card()))


@pytest.mark.parametrize("layers", [["a..b"], [""], ["x" * 201], ["a b"], "bias", [["bias"]]])
def test_layers_of_a_card_have_a_form(layers: object) -> None:
    data, _ = without_bias()
    header = header_of(data)
    card = json.loads(header["__metadata__"][KEY])
    card["training"]["personal"] = layers
    header["__metadata__"][KEY] = json.dumps(card, sort_keys=True, separators=(",", ":"))
    with pytest.raises(CardUnfit):
        read(with_header(data, header))
