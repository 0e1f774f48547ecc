"""J. Passages and their ranking: cut at sentences, found by words and by Chinese characters."""

from __future__ import annotations

import random
import time

import pytest
from llama_index.core import Document

from aquila2_runtime import InvalidRequestError
from llamaindex_aquila2._bm25 import BM25, terms
from llamaindex_aquila2._passages import _SENTENCE as SENTENCE
from llamaindex_aquila2._passages import Page, Source, cut, place_of, read_pages

CITIES = {
    "北京是中国的首都，故宫和长城都在这里。": "故宫在哪个城市？",
    "上海的外滩沿着黄浦江，晚上灯光很美。": "外滩在什么江边？",
    "成都的大熊猫基地每年有许多游客。": "去哪里看大熊猫？",
    "哈尔滨冬天有冰雪节，冰灯十分有名。": "哪里有冰灯？",
    "杭州的西湖周围种着柳树和桃树。": "西湖边种着什么树？",
    "The lighthouse of Lisbon was painted white in 1902.": "When was the lighthouse painted?",
    "A ferry to the island leaves twice a day.": "How often does the ferry leave?",
    "Tickets for the museum cost seven euros.": "What do museum tickets cost?",
}


class TestJRanking:
    @pytest.mark.parametrize("question", CITIES.values())
    def test_the_passage_that_answers_is_ranked_first(self, question: str) -> None:
        texts = list(CITIES)
        [(best, score)] = BM25(texts).rank(question, 1)
        assert CITIES[texts[best]] == question
        assert score > 0

    def test_characters_count_alone_and_in_pairs_and_words_in_lower_case(self) -> None:
        found = list(terms("Ｑ７的西湖 e_X!"))
        assert found == ["q7", "的", "西", "湖", "的西", "西湖", "e", "x"]

    def test_rare_words_count_for_more_and_long_texts_for_less(self) -> None:
        index = BM25(["the cat", "the dog", "the cat and the other things that are there", "the"])
        ranked = dict(index.rank("the cat", 9))
        assert ranked[0] > ranked[2] > ranked[1]

    def test_what_shares_nothing_is_left_out(self) -> None:
        index = BM25(list(CITIES))
        assert index.rank("zebra", 5) == []
        assert index.rank("", 5) == []
        assert BM25([]).rank("cat", 5) == []
        assert len(index.rank("the museum of Lisbon", 1)) == 1


class TestJPlaces:
    PAGES = (Page("i", "One. Two. Three."), Page("ii", "Two. Four."), Page("i", "Five. One. Six."))

    @pytest.mark.parametrize(
        ("page", "start", "text", "place"),
        [
            ("i", 5, "Two.", (0, 5)),
            ("ii", 0, "Two.", (1, 0)),
            ("i", 6, "One.", (2, 6)),  # labels may come twice
            ("ii", None, "Four.", (1, 5)),
            (None, None, " Six.\n", (2, 11)),
            ("9", 3, "Three.", (0, 10)),
            (None, 99, "Five.", (2, 0)),
            ("ii", 7, "Reworded.", (1, 7)),
            ("9", 7, "Reworded.", (3, 0)),
            (None, None, "Reworded.", (3, 0)),
        ],
    )
    def test_a_passage_is_found_by_its_place_or_by_its_text(
        self, page: str | None, start: int | None, text: str, place: tuple[int, int]
    ) -> None:
        assert place_of(Source(page=page, start=start, end=None, text=text), self.PAGES) == place


class TestJPassages:
    @pytest.mark.parametrize("seed", range(20))
    def test_passages_cover_the_pages_and_keep_to_their_length(self, seed: int) -> None:
        rng = random.Random(seed)
        pieces = [
            "Rome fell. ",
            "他来了。",
            "\n\n",
            "No end ",
            "“走！”",
            "word",
            "3.5 km ",
            "?",
            " ",
        ]
        pages = [
            Page(str(number), "".join(rng.choices(pieces, k=rng.randint(0, 60))))
            for number in range(3)
        ]
        passages = cut(pages, len, 30)
        for page in pages:
            own = [one for one in passages if one.page == page.label]
            places = [(one.start or 0, one.end or 0) for one in own]
            covered = "".join(page.text[start:end] for start, end in places)
            assert "".join(covered.split()) == "".join(page.text.split())
            assert places == sorted(places)
            assert all(one.text == page.text[one.start : one.end] for one in own)
            assert all(len(one.text) <= 30 for one in own)

    def test_passages_end_where_sentences_do(self) -> None:
        text = "王芳住在上海。她的电话是五八二一三。It costs 3.5 euros. Really!"
        found = [one.text for one in cut([Page(None, text)], len, 22)]
        assert found == ["王芳住在上海。她的电话是五八二一三。", "It costs 3.5 euros. ", "Really!"]
        text = '“好。”他说……"Go on." ... he said: "Why?!" No. (See a.b.) End'
        ends = [found.group() for found in SENTENCE.finditer(text)]
        assert ends == [
            "“好。”", '他说……"Go on." ', "... ", 'he said: "Why?!" ', "No. ", "(See a.b.) ", "End",
        ]  # fmt: skip

    @pytest.mark.parametrize("text", ["x" * 300_000, "." * 300_000 + "x", ".'" * 150_000 + "x"])
    def test_a_long_text_without_sentences_is_cut_in_time(self, text: str) -> None:
        """A hang guard: counting all that is left for every piece would take minutes.

        So would looking for the space behind a line of dots at each of them, with the
        interpreter's lock held: event loops and the engine stand still as well.
        """
        began = time.monotonic()
        passages = cut([Page(None, text)], lambda text: len(text) // 4, 50)
        assert time.monotonic() - began < 20
        assert "".join(one.text for one in passages) == text

    def test_pages_are_called_by_their_label_or_number(self) -> None:
        pages = [Document(text="a", metadata={"page_label": "iv"}), "b"]
        assert read_pages(pages) == [Page("iv", "a"), Page("2", "b")]
        assert read_pages("a") == [Page(None, "a")]

    @pytest.mark.parametrize("document", ["", " \n", [], None, 7, [None], ["", ""]])
    def test_what_is_no_document_is_refused(self, document: object) -> None:
        with pytest.raises(InvalidRequestError) as caught:
            read_pages(document)
        assert caught.value.parameter == "document"
