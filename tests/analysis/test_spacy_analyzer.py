import asyncio
import gc
import logging
import threading
import weakref

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from karen_learner.analysis import SpacyAnalyzer, create_spacy_analyzer
from karen_learner.analysis.analyses import best_category
from karen_learner.analysis.create import find_tasks
from karen_learner.analysis.spacy_analyzer import live_models_of
from karen_learner.contracts import Analyzer, BasePipelineInfo, BasePipelineSource
from karen_learner.errors import InvalidInput, LabelCollision, LearnerClosed, ModelError, PipelineUnsuitable
from karen_learner.models.live import LiveModel, LiveModels
from karen_learner.settings import load_settings

TASKS = {"intent": "intent", "sentiment": "sentiment", "entities": "entity_ruler"}
RULES = {"analysis.fallback": "rules"}


@Language.component("karen_test_poison")
def poison(doc):
    if "poison" in doc.text:
        raise RuntimeError(f"poison: {doc.text}")
    return doc


def poisoned(nlp: Language) -> LiveModel:
    nlp.add_pipe("karen_test_poison", first=True)
    return LiveModel(nlp, tasks=TASKS, version="v1")


def analyzer_with(model: LiveModel | None, **overrides) -> SpacyAnalyzer:
    settings = load_settings(environment={}, overrides=overrides)
    return SpacyAnalyzer(settings=settings, models=LiveModels(4), base=model)


async def test_each_task_has_its_own_pipe(nlp):
    async with create_spacy_analyzer(nlp) as analyzer:
        analysis = await analyzer.analyze("cancel this terrible plan in Boston")
        assert isinstance(analyzer, Analyzer)
        assert analysis.intent == "cancel"
        assert analysis.sentiment == "negative"
        assert 0.5 < analysis.intent_confidence <= 1.0
        assert [(e.start, e.end, e.label, e.text) for e in analysis.entities] == [(29, 35, "CITY", "Boston")]
        assert analysis.linguistic_features["tokens"] == 6
        assert not analysis.degraded
        assert analysis.model_version == "en_pipeline-0.0.0"
        assert await analyzer.detect_intent("my bill is great") == (
            "billing",
            (await analyzer.analyze("my bill is great")).intent_confidence,
        )
        assert (await analyzer.sentiment("my bill is great"))[0] == "positive"
        assert [entity.text for entity in await analyzer.entities("Boston")] == ["Boston"]
        assert await analyzer.on_deployed("v1", None) is None


async def test_an_unmapped_task_has_no_labels(nlp):
    async with create_spacy_analyzer(nlp, tasks={"intent": "intent"}) as analyzer:
        analysis = await analyzer.analyze("a lovely bill in Boston")
        assert analysis.intent == "billing"
        assert (analysis.sentiment, analysis.sentiment_confidence, analysis.entities) == (None, 0.0, ())


async def test_concurrent_analyses_equal_single_ones(nlp):
    texts = [
        f"{text} {number}" for number in range(30) for text in ("my bill is great", "cancel it in Boston")
    ]
    async with create_spacy_analyzer(nlp) as analyzer:
        together = await asyncio.gather(*map(analyzer.analyze, texts))
        many = await analyzer.analyze_many(texts)
        alone = [await analyzer.analyze(text) for text in texts]
    for one, two, three in zip(alone, together, many, strict=True):
        for other in (two, three):
            assert one.intent == other.intent
            assert one.entities == other.entities
            assert one.intent_confidence == pytest.approx(other.intent_confidence, abs=1e-5)
            assert one.linguistic_features == other.linguistic_features


async def test_the_live_model_of_a_tenant_precedes_the_base_model(nlp, model_folder):
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS, version="base"))
    analyzer.models.install("a", LiveModel(spacy.load(model_folder), tasks=TASKS, version="a-1"))
    assert (await analyzer.analyze("my bill", tenant_id="a")).model_version == "a-1"
    assert (await analyzer.analyze("my bill", tenant_id="b")).model_version == "base"
    assert (await analyzer.analyze("my bill")).model_version == "base"
    analyzer.close()


async def test_without_any_model_nothing_invents_a_label():
    analyzer = analyzer_with(None)
    for analysis in (await analyzer.analyze("hello, $5!"), *await analyzer.analyze_many(["what is it?"])):
        assert analysis.degraded
        assert (analysis.intent, analysis.intent_confidence) == (None, 0.0)
        assert (analysis.sentiment, analysis.sentiment_confidence, analysis.entities) == (None, 0.0, ())
        assert analysis.linguistic_features["chars"]
    analyzer.close()


async def test_without_any_model_rules_answer_if_the_host_asks_for_them():
    analyzer = analyzer_with(None, **RULES)
    analysis = await analyzer.analyze("hello!")
    assert analysis.degraded
    assert analysis.intent == "greeting"
    assert [found.intent for found in await analyzer.analyze_many(["bye", "thanks"])] == ["goodbye", "thanks"]
    analyzer.close()


async def test_without_a_model_the_created_analyzer_has_features():
    async with create_spacy_analyzer() as analyzer:
        analysis = await analyzer.analyze("what is my balance?")
        assert analysis.degraded
        assert (analysis.intent, analysis.model_version) == (None, None)
        assert analysis.linguistic_features["tokens"] == 5


async def test_a_text_on_which_the_model_fails_affects_no_other_and_is_logged_once(nlp, caplog):
    analyzer = analyzer_with(poisoned(nlp), **RULES)
    texts = ["my bill is great", "hello poison", "cancel this terrible plan"]
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            first, second, third = await asyncio.gather(*map(analyzer.analyze, texts))
    assert (first.intent, first.degraded, first.model_version) == ("billing", False, "v1")
    assert (second.intent, second.degraded, second.model_version) == ("greeting", True, None)
    assert second.linguistic_features["tokens"] == 2
    assert (third.intent, third.degraded) == ("cancel", False)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "RuntimeError" in caplog.text
    assert "in poison" in caplog.text
    assert "hello poison" not in caplog.text

    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert not (await analyzer.analyze("my bill")).degraded
        assert not (await analyzer.analyze("my bill")).degraded
    assert [record.getMessage() for record in caplog.records] == ["the model v1 answers again"]
    analyzer.close()


async def test_the_fallback_answers_while_a_batch_takes_too_long(nlp, caplog):
    release = threading.Event()

    @Language.component("karen_test_slow")
    def slow(doc):
        assert "slow" not in doc.text or release.wait(60)
        return doc

    nlp.add_pipe("karen_test_slow", first=True)
    settings = {"analysis.timeout_s": 0.2, **RULES}
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS, version="v1"), **settings)
    assert (await analyzer.analyze("hello slow people")).degraded
    meanwhile = await analyzer.analyze_many(["hello there", "my bill is great"])
    assert [analysis.degraded for analysis in meanwhile] == [True, True]
    assert meanwhile[0].intent == "greeting"
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "analysis.timeout_s = 0.2" in caplog.text
    release.set()
    async with asyncio.timeout(60):
        while (await analyzer.analyze("my bill is great")).degraded:
            await asyncio.sleep(0.01)
    analyzer.close()


@pytest.mark.parametrize("sign", ["\U0001f600", "(", "!?", "us"])
async def test_rows_of_signs_are_analysed_with_the_right_offsets(nlp, sign):
    row = sign * (6_000 // len(sign))
    text = f"{row} Boston {row}"
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS, version="v1"), **{"analysis.timeout_s": 300.0})
    analysis = await analyzer.analyze(text)
    assert not analysis.degraded
    assert [(found.start, found.text) for found in analysis.entities] == [(text.index("Boston"), "Boston")]
    analyzer.close()


async def test_nan_scores_are_a_failure(nlp, caplog):
    node = next(n for n in nlp.get_pipe("intent").model.walk() if n.has_param("W"))
    node.set_param("W", node.get_param("W") * float("nan"))
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS, version="nan"))
    analysis = await analyzer.analyze("hello there")
    assert analysis.degraded
    assert analysis.intent is None
    analyzer.close()


async def test_a_logged_failure_keeps_no_document_alive(nlp, caplog, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("no features")

    monkeypatch.setattr("karen_learner.analysis.analyses.linguistic_features", fails)
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS, version="v1"))
    gc.collect()
    before = {id(found) for found in gc.get_objects() if isinstance(found, Doc)}
    await analyzer.analyze_many(["hello there", "my bill is great", "cancel this"])
    gc.collect()
    assert "RuntimeError" in caplog.text
    assert not {id(found) for found in gc.get_objects() if isinstance(found, Doc)} - before
    analyzer.close()


async def test_strings_do_not_accumulate(nlp):
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS, version="v1"))
    await analyzer.analyze("hello")
    before = len(nlp.vocab.strings)
    await analyzer.analyze_many([f"unseen{number} of{number}" for number in range(300)])
    assert len(nlp.vocab.strings) == before
    analyzer.close()


async def test_requests_queued_at_a_swap_are_answered_by_the_old_model(nlp, model_folder):
    analyzer = analyzer_with(None, **{"analysis.max_batch": 4})
    analyzer.models.install("a", LiveModel(nlp, tasks=TASKS, version="old"))
    gone = weakref.ref(analyzer.models.get("a"))
    queued = [asyncio.create_task(analyzer.analyze(f"my bill {n}", tenant_id="a")) for n in range(40)]
    await asyncio.sleep(0)
    analyzer.models.install("a", LiveModel(spacy.load(model_folder), tasks=TASKS, version="new"))
    later = await analyzer.analyze("my bill", tenant_id="a")
    answers = await asyncio.gather(*queued)
    assert {answer.model_version for answer in answers} == {"old"}
    assert later.model_version == "new"
    del queued
    gc.collect()
    assert gone() is None
    analyzer.close()


async def test_unusable_texts_are_refused_and_unfit_characters_replaced(nlp):
    analyzer = analyzer_with(LiveModel(nlp, tasks=TASKS), **{"analysis.max_text_chars": 30})
    with pytest.raises(InvalidInput, match=r"analysis\.max_text_chars"):
        await analyzer.analyze("a" * 31)
    with pytest.raises(InvalidInput, match="empty"):
        await analyzer.analyze_many(["fine", " "])
    found = await analyzer.entities("\x00\ud83d Boston")
    assert [(entity.start, entity.text) for entity in found] == [(3, "Boston")]
    analyzer.close()


async def test_a_closed_analyzer_raises(nlp):
    analyzer = create_spacy_analyzer(nlp)
    analyzer.close()
    analyzer.close()
    with pytest.raises(LearnerClosed):
        await analyzer.analyze("hello")


async def test_a_folder_is_loaded_once_at_the_first_text(model_folder):
    analyzer = create_spacy_analyzer(model_folder, tasks=TASKS)
    answers = await asyncio.gather(*(analyzer.analyze("my bill is great") for _ in range(5)))
    assert {answer.intent for answer in answers} == {"billing"}
    assert await analyzer.base_model() is await analyzer.base_model()
    analyzer.close()


async def test_a_missing_model_is_refused_at_once(tmp_path):
    with pytest.raises(ModelError, match="no_such_package"):
        create_spacy_analyzer("no_such_package")
    with pytest.raises(ModelError, match="nowhere"):
        create_spacy_analyzer(tmp_path / "nowhere")


async def test_a_folder_without_a_usable_pipe_is_refused_when_loaded(tmp_path):
    spacy.blank("en").to_disk(tmp_path / "blank")
    analyzer = create_spacy_analyzer(tmp_path / "blank")
    for _ in range(2):
        with pytest.raises(PipelineUnsuitable, match="none"):
            await analyzer.analyze("hello")


def pipeline_with(*pipes: tuple[str, str]) -> Language:
    nlp = spacy.blank("en")
    for factory, name in pipes:
        nlp.add_pipe(factory, name=name)
    return nlp


@pytest.mark.parametrize(
    ("pipes", "tasks"),
    [
        ([("ner", "ner")], {"entities": "ner"}),
        ([("textcat", "textcat")], {"intent": "textcat"}),
        ([("textcat_multilabel", "topics"), ("ner", "names")], {"intent": "topics", "entities": "names"}),
        ([("textcat", "intent"), ("textcat", "sentiment")], {"intent": "intent", "sentiment": "sentiment"}),
        ([("textcat", "sentiment")], {"sentiment": "sentiment"}),
        ([("textcat", "sentiment"), ("textcat", "acts")], {"intent": "acts", "sentiment": "sentiment"}),
        ([("entity_ruler", "rules"), ("ner", "ner")], {"entities": "ner"}),
        ([("tagger", "sentiment"), ("ner", "ner")], {"entities": "ner"}),
    ],
)
def test_tasks_are_found(pipes, tasks):
    assert find_tasks(pipeline_with(*pipes)) == tasks


@pytest.mark.parametrize(
    "pipes", [[], [("sentencizer", "sentencizer")], [("textcat", "a"), ("textcat", "b")]]
)
def test_a_pipeline_without_a_usable_pipe_names_its_pipes(pipes):
    with pytest.raises(PipelineUnsuitable, match=pipes[0][1] if pipes else "none"):
        create_spacy_analyzer(pipeline_with(*pipes))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"intents": "textcat"}, r"'intents', but the tasks are intent, .*did you mean 'intent'"),
        ({"mood": "textcat"}, r"'mood', but the tasks are intent, sentiment, entities$"),
        ({"intent": None}, "no name of a pipe"),
        ({"intent": "textcat", "sentiment": "textcat"}, "'textcat' for two tasks"),
    ],
)
def test_unusable_tasks_are_refused(tasks, message, tmp_path):
    nlp = pipeline_with(("textcat", "textcat"))
    nlp.to_disk(tmp_path)
    for model in (nlp, tmp_path):
        with pytest.raises(InvalidInput, match=message):
            create_spacy_analyzer(model, tasks=tasks)


def test_tasks_without_a_model_are_refused():
    with pytest.raises(InvalidInput, match="give the pipeline"):
        create_spacy_analyzer(tasks={"intent": "textcat"})


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ({"intent": "txtcat"}, "'txtcat', which does not exist. Suitable pipes: topics, acts"),
        ({"intent": "ner"}, "'ner', which is not suitable. Suitable pipes: topics, acts"),
        ({"sentiment": "tagger"}, "'tagger', which is not suitable"),
        ({"entities": "topics"}, "'topics', which is not suitable. Suitable pipes: ner, plain"),
        ({"intent": "plain"}, "'plain', which is not suitable"),
    ],
)
def test_missing_pipes_and_pipes_of_another_kind_name_the_right_ones(tasks, message):
    nlp = pipeline_with(
        ("textcat", "topics"), ("karen_textcat", "acts"), ("ner", "ner"), ("tagger", "tagger"),
        ("karen_test_poison", "plain"),
    )  # fmt: skip
    with pytest.raises(PipelineUnsuitable, match=message):
        create_spacy_analyzer(nlp, tasks=tasks)


def test_categorizers_with_a_common_label_are_refused():
    nlp = pipeline_with(("textcat", "intent"), ("textcat", "sentiment"))
    nlp.get_pipe("intent").add_label("complaint")
    nlp.get_pipe("sentiment").add_label("complaint")
    with pytest.raises(LabelCollision, match="complaint"):
        create_spacy_analyzer(nlp)


async def test_the_base_pipeline_is_described_and_written(nlp, tmp_path):
    async with create_spacy_analyzer(nlp) as analyzer:
        assert isinstance(analyzer, BasePipelineSource)
        info = await analyzer.base_pipeline()
        assert info == BasePipelineInfo(version="en_pipeline-0.0.0", tasks=TASKS, language="en")
        await analyzer.write_base_pipeline(tmp_path / "base")
    assert spacy.load(tmp_path / "base").pipe_names == nlp.pipe_names


async def test_without_a_task_there_is_no_base_pipeline(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delattr(LiveModel, "blank")  # a tokenizer is not loaded for this answer
        assert await create_spacy_analyzer().base_pipeline() is None
    async with create_spacy_analyzer() as analyzer:
        assert await analyzer.base_pipeline() is None
    analyzer = analyzer_with(None)
    with pytest.raises(ModelError, match="no base model"):
        await analyzer.write_base_pipeline(tmp_path)
    analyzer.close()


def test_the_live_models_of_an_analyzer():
    analyzer = analyzer_with(None)
    settings = load_settings(environment={}).analysis
    assert live_models_of(analyzer, settings) is analyzer.models
    assert len(live_models_of(object(), settings)) == 0


def test_the_best_category():
    assert best_category({"a": 0.2, "b": 0.7, "c": 0.9}, ("a", "b")) == ("b", 0.7)
    assert best_category({"c": 0.9}, ("a", "b")) == (None, 0.0)
    assert best_category({"a": 1.0000001}, ("a",)) == ("a", 1.0)
    assert best_category({}, ()) == (None, 0.0)
