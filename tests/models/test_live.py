import asyncio
import gc
import logging
import threading
import weakref

import numpy as np
import pytest
import spacy
from spacy.language import Language

from karen_learner.errors import LearnerClosed, ModelError, PipelineUnsuitable
from karen_learner.models.live import LiveModel, LiveModels
from karen_learner.models.loading import is_saved_tokenizer, load_pipeline, warm_blank


@pytest.fixture
def nlp() -> Language:
    pipeline = spacy.blank("en")
    pipeline.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Boston"}])
    return pipeline


def model_of(nlp: Language, version: str | None = "v1") -> LiveModel:
    return LiveModel(nlp, tasks={"entities": "entity_ruler"}, version=version)


async def test_runs_on_its_own_single_thread(nlp):
    model = model_of(nlp)
    threads = await asyncio.gather(*(model.run(lambda _: threading.current_thread().name) for _ in range(20)))
    assert len(set(threads)) == 1
    assert threads[0] != threading.current_thread().name
    assert "v1" in threads[0]
    model.close()


async def test_strings_do_not_accumulate(nlp):
    model = model_of(nlp)
    await model.run(lambda pipeline: len(pipeline("warm up")))
    before = len(nlp.vocab.strings)
    for number in range(200):
        await model.run(lambda pipeline, number=number: len(pipeline(f"unheardof{number} word{number}x")))
    assert len(nlp.vocab.strings) == before
    model.close()


async def test_an_error_of_the_function_is_raised_and_the_model_stays_usable(nlp):
    model = model_of(nlp)

    def fail(pipeline: Language) -> None:
        doc = pipeline("this doc ends with its memory zone")
        raise ValueError(f"no, not {len(doc)}")

    for _ in range(3):
        with pytest.raises(ValueError, match="no, not 7") as caught:
            await model.run(fail)
    trace = caught.value.__traceback__
    while trace is not None:
        assert "doc" not in trace.tb_frame.f_locals
        trace = trace.tb_next
    assert await model.run(lambda pipeline: [ent.text for ent in pipeline("to Boston").ents]) == ["Boston"]
    model.close()


async def test_close_finishes_queued_calls_and_refuses_new_ones(nlp):
    model = model_of(nlp)
    go = threading.Event()
    queued = [asyncio.create_task(model.run(lambda _: go.wait(10))) for _ in range(5)]
    await asyncio.sleep(0)
    model.close()
    model.close()
    assert model.closed
    with pytest.raises(LearnerClosed, match="v1 was closed"):
        await model.run(lambda _: None)
    go.set()
    assert await asyncio.gather(*queued) == [True] * 5


def test_the_error_of_a_missing_pipe_lists_the_pipes(nlp):
    with pytest.raises(PipelineUnsuitable, match=r"'intent' needs the pipe 'textcat'.*entity_ruler"):
        LiveModel(nlp, tasks={"intent": "textcat"})


def test_a_disabled_pipe_is_missing(nlp):
    nlp.disable_pipe("entity_ruler")
    with pytest.raises(PipelineUnsuitable, match="the pipeline has: none"):
        model_of(nlp)


def test_labels(nlp):
    model = model_of(nlp)
    assert model.labels("entities") == ("CITY",)
    assert model.labels("intent") == ()
    model.close()


async def test_load_from_a_folder(nlp, tmp_path):
    nlp.to_disk(tmp_path / "model")
    model = await asyncio.to_thread(
        LiveModel.load, tmp_path / "model", tasks={"entities": "entity_ruler"}, version="v7"
    )
    assert model.version == "v7"
    assert model.language == "en"
    assert await model.run(lambda pipeline: len(pipeline("in Boston").ents)) == 1
    model.close()


async def test_common_words_stay_in_the_vocabulary_and_others_do_not(nlp, tmp_path):
    nlp.to_disk(tmp_path / "model")
    model = LiveModel.load(tmp_path / "model", tasks={}, version=None)

    def known(word: str) -> bool:
        return word in model._nlp.vocab.strings

    await model.run(lambda pipeline: len(pipeline("because rareword")))
    assert known("because")
    assert not known("rareword")
    model.close()


def test_a_failed_load_is_a_model_error(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        LiveModel.load(tmp_path / "nowhere", tasks={}, version=None)
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = 3\n")
    with pytest.raises(ModelError, match="cannot load"):
        LiveModel.load(tmp_path, tasks={}, version=None)


def test_a_model_that_cannot_process_a_text_is_a_model_error(tmp_path):
    pipeline = spacy.blank("en")
    pipeline.add_pipe("textcat").add_label("a")
    pipeline.get_pipe("textcat").add_label("b")
    pipeline.to_disk(tmp_path / "untrained")
    with pytest.raises(ModelError, match="cannot process a text"):
        LiveModel.load(tmp_path / "untrained", tasks={"intent": "textcat"}, version=None)


def test_a_blank_model_of_an_unknown_language():
    with pytest.raises(ModelError, match="'qq'"):
        LiveModel.blank("qq")


async def test_install_swaps_at_once_and_a_held_model_still_answers(nlp):
    models = LiveModels(2)
    old, new = LiveModel(nlp, tasks={}, version="old"), LiveModel(spacy.blank("en"), tasks={}, version="new")
    assert models.install("tenant", old) is None
    held = models.get("tenant")
    assert models.install("tenant", new) is old
    assert models.get("tenant") is new
    assert held is old
    assert await held.run(lambda pipeline: len(pipeline("still here"))) == 2
    models.close()


async def test_a_replaced_model_is_released_with_its_last_reference(nlp):
    models = LiveModels(1)
    models.install("a", model_of(nlp, "retired"))
    thread = await models.get("a").run(lambda _: threading.current_thread())
    gone = weakref.ref(models.get("a"))
    models.install("a", LiveModel(spacy.blank("en"), tasks={}))
    gc.collect()
    assert gone() is None
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()
    models.close()


async def test_no_request_fails_while_models_are_swapped(nlp):
    pipelines = [spacy.blank("en") for _ in range(5)]
    for pipeline in pipelines:
        pipeline.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Boston"}])
    models = LiveModels(1)
    models.install("a", model_of(nlp))
    done = asyncio.Event()

    async def ask() -> int:
        count = 0
        while not done.is_set():
            assert await models.get("a").run(lambda pipeline: len(pipeline("go to Boston").ents)) == 1
            count += 1
        return count

    callers = [asyncio.create_task(ask()) for _ in range(8)]
    for pipeline in pipelines:
        models.install("a", model_of(pipeline))
        await asyncio.sleep(0.01)
    done.set()
    assert all(await asyncio.gather(*callers))
    models.close()


def test_the_least_recently_used_model_is_unloaded():
    models = LiveModels(2)
    for name in ("a", "b"):
        models.install(name, LiveModel(spacy.blank("en"), tasks={}, version=name))
    models.get("a")
    models.install("c", LiveModel(spacy.blank("en"), tasks={}, version="c"))
    assert models.get("b") is None
    assert [models.get(name).version for name in ("a", "c")] == ["a", "c"]
    assert len(models) == 2
    models.close()


def sized(name: str, size_bytes: int) -> LiveModel:
    return LiveModel(spacy.blank("en"), tasks={}, version=name, size_bytes=size_bytes)


def test_models_beyond_the_limit_of_bytes_are_unloaded_and_reported():
    models, unloaded = LiveModels(10, max_bytes=100), []
    models.on_unload.append(lambda tenant, model, setting: unloaded.append((tenant, model.version, setting)))
    for name, size in (("a", 40), ("b", 40), ("c", 30)):
        models.install(name, sized(name, size))
    assert models.tenants() == ["b", "c"]
    assert unloaded == [("a", "a", "analysis.live_models_bytes")]
    models.install("d", sized("d", 500))
    assert models.tenants() == ["d"]  # the newest model stays, even if it alone is too large
    assert [version for _, version, _ in unloaded] == ["a", "b", "c"]
    models.close()


def test_a_replaced_model_is_not_reported_as_unloaded():
    models, unloaded = LiveModels(1, max_bytes=100), []
    models.on_unload.append(lambda *event: unloaded.append(event))
    models.install("a", sized("one", 90))
    models.install("a", sized("two", 90))
    assert unloaded == []
    models.install("b", sized("three", 1))
    assert [event[0] for event in unloaded] == ["a"]
    models.close()


def test_the_size_of_a_loaded_model_is_that_of_its_files(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "model")
    model = LiveModel.load(tmp_path / "model", tasks={}, version="v1")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert model.size_bytes == sum(path.stat().st_size for path in files) > 0
    model.close()


async def test_closing_the_pool_closes_its_models(nlp, caplog):
    models = LiveModels(2)
    model = model_of(nlp)
    models.install("a", model)
    with caplog.at_level(logging.WARNING):
        models.close()
        models.close()
    assert model.closed
    assert not caplog.records
    with pytest.raises(LearnerClosed):
        models.get("a")
    with pytest.raises(LearnerClosed):
        models.install("a", model)


def test_a_pool_of_size_zero_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        LiveModels(0)


@pytest.mark.parametrize("changed", [False, True])
def test_a_folder_is_loaded_as_by_spacy(tmp_path, changed):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Boston"}])
    nlp.vocab.strings.add("a string of its own")
    if changed:
        nlp.tokenizer.add_special_case("gimme", [{"ORTH": "gim"}, {"ORTH": "me"}])
    nlp.to_disk(tmp_path)
    assert is_saved_tokenizer(spacy.blank("en"), tmp_path) is not changed
    ours, theirs = load_pipeline(tmp_path), spacy.load(tmp_path)
    assert ours.tokenizer.to_bytes(exclude=["vocab"]) == theirs.tokenizer.to_bytes(exclude=["vocab"])
    assert set(theirs.vocab.strings) <= set(ours.vocab.strings)
    text = "don't gimme Boston at 5pm :) U.S.A."
    for one, other in zip(ours(text), theirs(text), strict=True):
        assert (one.text, one.norm_, one.ent_type_) == (other.text, other.norm_, other.ent_type_)


def test_the_words_of_the_tokenizer_have_their_strings_after_loading(tmp_path):
    nlp = spacy.blank("en")
    nlp.to_disk(tmp_path)
    (tmp_path / "vocab" / "strings.json").write_text("[]")
    assert [token.text for token in load_pipeline(tmp_path)("I can't")] == ["I", "ca", "n't"]


def test_a_pipeline_with_the_words_of_another_one_is_the_saved_one(nlp, tmp_path):
    nlp.to_disk(tmp_path)
    loaded = load_pipeline(tmp_path, words=(nlp.vocab, nlp.tokenizer))
    assert (loaded.vocab, loaded.tokenizer) == (nlp.vocab, nlp.tokenizer)
    assert loaded.config.to_str() == spacy.load(tmp_path).config.to_str()
    assert [ent.text for ent in loaded("I can't see Boston").ents] == ["Boston"]


@pytest.mark.parametrize("changed", ["nothing", "tokenizer", "vectors"])
def test_a_pipeline_takes_over_a_warm_tokenizer_only_if_the_saved_one_is_equal(tmp_path, changed):
    nlp = spacy.blank("en")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "Boston"}])
    nlp.vocab.strings.add("a string of its own")
    if changed == "tokenizer":
        nlp.tokenizer.add_special_case("gimme", [{"ORTH": "gim"}, {"ORTH": "me"}])
    if changed == "vectors":
        nlp.vocab.set_vector("Boston", np.ones(3, dtype=np.float32))
    nlp.to_disk(tmp_path)
    blank = warm_blank("en")
    ours, theirs = load_pipeline(tmp_path, blank=blank), spacy.load(tmp_path)
    assert (ours.tokenizer is blank.tokenizer) is (changed == "nothing")
    assert ours.config.to_str() == theirs.config.to_str()
    assert "a string of its own" in ours.vocab.strings
    text = "don't gimme Boston at 5pm :) U.S.A."
    for one, other in zip(ours(text), theirs(text), strict=True):
        assert (one.text, one.norm_, one.ent_type_) == (other.text, other.norm_, other.ent_type_)
        assert one.has_vector is other.has_vector


def test_there_is_no_warm_tokenizer_of_an_unknown_language():
    assert warm_blank("qq") is None
