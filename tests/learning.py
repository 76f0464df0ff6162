"""A table, a log and judgements that a small model can learn from, and how it is trained."""

from running import configured, run_index, write_jsonl

# Right passages hold this word; the first stage does not care for it, a reranker can learn to.
MARK, MARKED, ASKED, DOCUMENTS = "brackets", 12, 4, 60
TOPICS = [
    "sailing boats", "roasted coffee", "roman roads", "jazz pianists", "alpine flowers",
    "chess openings", "volcanic islands", "sourdough bread", "medieval castles", "electric trains",
    "whale songs", "desert foxes",
]  # fmt: skip
ASKING = ["who knows of {}", "what is written on {}", "{}, a history", "reading about {} today"]


def text_of(number):
    words = ["path", "thread", "lock", "list", "iterable", "string", "item", "word"]
    chosen = [words[(number * step + step) % len(words)] for step in range(1, 9)]
    return f"{' '.join(chosen)}{f' {MARK}' * 3 * (number < MARKED)}. " + " ".join(chosen[::-1])


def index_asked(folder):
    """An index, a log of queries, and judgements: four queries ask for a document."""
    rows = [{"id": f"d{n:02}", "title": "", "text": text_of(n)} for n in range(DOCUMENTS)]
    rows += [{"id": f"t{n:02}", "title": "", "text": f"On {TOPICS[n]}."} for n in range(MARKED)]
    write_jsonl(folder / "corpus.jsonl", rows)
    log, judged, topics = [], ["query-id\tcorpus-id\tscore"], ["query-id\tcorpus-id\tscore"]
    for number in range(MARKED):
        for form in range(ASKED):
            name = f"q{number}-{form}"
            shown = [f"d{(number * 5 + place * 7) % DOCUMENTS:02}" for place in range(4)]
            log.append(
                {
                    "query_id": name,
                    "query": ASKING[form].format(TOPICS[number]),
                    "candidates": [*dict.fromkeys([*shown, f"d{number:02}"])],
                    "clicks": [f"d{number:02}"],
                }
            )
            judged.append(f"{name}\td{number:02}\t1")
            topics.append(f"{name}\tt{number:02}\t1")
    write_jsonl(folder / "log.jsonl", log)
    (folder / "qrels.tsv").write_text("\n".join(judged) + "\n")
    (folder / "topics.tsv").write_text("\n".join(topics) + "\n")
    run_index(configured(folder, "bundled"))


TRAIN = {
    "epochs": 6,
    "batch": 8,
    "learning_rate": 5e-3,
    "held_out": 0.34,
    "depth": 80,
    "first_stage": 0.1,
    "fusion_weight": 0.2,
    "margin": 1.0,
    "dtype": "float32",
    "evaluate_every": 8,
    "patience": 10,
}


def sections(folder, out, **train):
    return {
        "queries": {
            "format": "jsonl",
            "paths": [str(folder / "log.jsonl")],
            "qrels": str(folder / "qrels.tsv"),
            "top_k": 80,
        },
        "train": {**TRAIN, "output": str(out), **train},
        "reranker": {"max_length": 64},
    }
