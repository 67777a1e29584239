"""text_rig.py: small models of text with their vocabulary, and the same in numpy: what tests of texts compare with."""
import random

import numpy as np

import onnx_bytes as ob

WORDS = ("the a of to and in is it you that was for on are with as at be this have from or one had by word but not what all "
         "were we when your can said there use an each which she do how their if will up other about out many then them "
         "good bad great awful nice poor fine worst best love hate like happy sad fun boring").split()
VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"] + WORDS
GOOD = set("good great nice fine best love like happy fun".split())
DIM, CLASSES = 16, 2
PAD, UNK, CLS, SEP = range(4)


def vocab_txt():
    return "\n".join(VOCAB) + "\n"


def ids_of(text, pair=None, max_length=None):
    """[CLS] text [SEP] (pair [SEP]) and the segments; words are told apart by spaces."""
    def words(t):
        return [VOCAB.index(w) if w in VOCAB[5:] else UNK for w in t.split()]
    a, b = words(text), words(pair) if pair is not None else None
    if max_length and b is None:
        a = a[:max_length - 2]
    ids, types = [CLS, *a, SEP], [0] * (len(a) + 2)
    if b is not None:
        ids, types = ids + b + [SEP], types + [1] * (len(b) + 1)
    return ids, types


def weights(seed=3):
    rng = np.random.default_rng(seed)
    w = {"word.weight": rng.normal(0, 0.5, (len(VOCAB), DIM)), "type.weight": rng.normal(0, 0.5, (2, DIM)),
         "dense.weight": rng.normal(0, 0.4, (DIM, DIM)), "dense.bias": rng.normal(0, 0.1, DIM),
         "head.weight": rng.normal(0, 0.5, (DIM, CLASSES)), "head.bias": rng.normal(0, 0.1, CLASSES)}
    return {k: v.astype(np.float32) for k, v in w.items()}


def hidden(ids, types, w):
    """One vector per token, without a model."""
    h = w["word.weight"][np.array(ids)] + w["type.weight"][np.array(types)]
    return np.tanh(h @ w["dense.weight"] + w["dense.bias"])


def logits(text, pair=None, max_length=None, w=None):
    w = w or weights()
    return hidden(*ids_of(text, pair, max_length), w).mean(0) @ w["head.weight"] + w["head.bias"]


def embedding(ids, w=None):
    v = hidden(ids, [0] * len(ids), w or weights()).mean(0)
    return v / np.linalg.norm(v)


def model(output, ids="input_ids", mask=True, types=True, dtype=ob.I64, w=None):
    """output "logits": (N, CLASSES), the mean of tokens that the mask lets through, then a linear layer; "tokens":
    (N, L, DIM)."""
    w = w or weights()
    axis1, axis2 = (np.array([k], np.int64).tobytes() for k in (1, 2))
    nodes = [ob.node("Gather", ["word.weight", ids], ["word"], "/word/Gather")]
    inputs, last = [ob.value(ids, dtype, ["N", "L"])], "word"
    if mask:
        inputs.insert(0, ob.value("attention_mask", dtype, ["N", "L"]))
    if types:
        inputs.append(ob.value("token_type_ids", dtype, ["N", "L"]))
        nodes += [ob.node("Gather", ["type.weight", "token_type_ids"], ["type"], "/type/Gather"),
                  ob.node("Add", ["word", "type"], ["sum"], "/Add")]
        last = "sum"
    nodes += [ob.node("MatMul", [last, "dense.weight"], ["d0"], "/dense/MatMul"),
              ob.node("Add", ["d0", "dense.bias"], ["d1"], "/dense/Add"),
              ob.node("Tanh", ["d1"], ["tokens"], "/Tanh")]
    used = {"word.weight", "dense.weight", "dense.bias"} | ({"type.weight"} if types else set())
    tensors = []
    if output == "tokens":
        outputs = [ob.value("tokens", ob.F32, ["N", "L", DIM])]
    else:
        if mask:
            nodes += [ob.node("Cast", ["attention_mask"], ["m0"], "/Cast", to=1),
                      ob.node("Unsqueeze", ["m0", "axis2"], ["m1"], "/Unsqueeze"),
                      ob.node("Mul", ["tokens", "m1"], ["k"], "/Mul"),
                      ob.node("ReduceSum", ["k", "axis1"], ["s"], "/ReduceSum", keepdims=0),
                      ob.node("ReduceSum", ["m1", "axis1"], ["c"], "/ReduceSum_1", keepdims=0),
                      ob.node("Div", ["s", "c"], ["mean"], "/Div")]
            tensors += [ob.tensor("axis1", ob.I64, [1], axis1), ob.tensor("axis2", ob.I64, [1], axis2)]
        else:
            nodes.append(ob.node("ReduceMean", ["tokens"], ["mean"], "/ReduceMean", axes=[1], keepdims=0))
        nodes += [ob.node("MatMul", ["mean", "head.weight"], ["h0"], "/head/MatMul"),
                  ob.node("Add", ["h0", "head.bias"], ["logits"], "/head/Add")]
        used |= {"head.weight", "head.bias"}
        outputs = [ob.value("logits", ob.F32, ["N", CLASSES])]
    tensors += [ob.tensor(k, ob.F32, list(w[k].shape), w[k].tobytes()) for k in sorted(used)]
    return ob.model(ob.graph(nodes, inputs, outputs, tensors))


def sentences(n, seed=1, longest=40):
    """Texts of mixed length that say good or bad things: (label, text), no text twice."""
    rng, seen = random.Random(seed), set()
    bad = [w for w in WORDS[-20:] if w not in GOOD]
    while len(seen) < n:
        label = rng.randrange(2)
        words = [rng.choice(WORDS[:-20]) for _ in range(rng.randrange(longest))]
        for _ in range(1 + len(words) // 6):
            words.insert(rng.randrange(len(words) + 1), rng.choice(sorted(GOOD) if label else bad))
        text = " ".join(words)
        if text not in seen:
            seen.add(text)
            yield "good" if label else "bad", text
