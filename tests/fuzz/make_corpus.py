#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/corpus: small valid files of every format, made by hand here (no library of the
formats is used), so that a fuzzer begins behind the first checks. Findings are added beside them under the name
of what went wrong.  The seeds of message, manifest, journal,
card and result are of a real run (README.md)."""
import io, json, os, struct, zipfile

root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(target, name, data):
    os.makedirs(os.path.join(root, target), exist_ok=True)
    with open(os.path.join(root, target, name), "wb") as f:
        f.write(data if isinstance(data, bytes) else data.encode())


# ---- GGUF: header, keys, tensors
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
FORM = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}


def text(s):
    s = s.encode() if isinstance(s, str) else s
    return struct.pack("<Q", len(s)) + s


def value(kind, v):
    if kind == STRING:
        return text(v)
    if kind == ARRAY:
        inner, items = v
        return struct.pack("<IQ", inner, len(items)) + b"".join(value(inner, i) for i in items)
    return struct.pack("<" + FORM[kind], v)


def gguf(keys, tensors, version=3):
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    for name, kind, v in keys:
        out += text(name) + struct.pack("<I", kind) + value(kind, v)
    at, body = 0, b""
    for name, shape, kind, data in tensors:
        out += text(name) + struct.pack("<I", len(shape)) + struct.pack("<%dQ" % len(shape), *shape)
        out += struct.pack("<IQ", kind, len(body))
        body += data + b"\0" * (-len(data) % 32)
    return out + b"\0" * (-len(out) % 32) + body


def llama():
    d, f, v, heads = 8, 16, 12, 2
    keys = [("general.architecture", STRING, "llama"), ("llama.context_length", U32, 64),
            ("llama.embedding_length", U32, d), ("llama.block_count", U32, 1), ("llama.feed_forward_length", U32, f),
            ("llama.attention.head_count", U32, heads), ("llama.attention.head_count_kv", U32, heads),
            ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("llama.rope.freq_base", F32, 10000.0),
            ("llama.rope.dimension_count", U32, d // heads), ("llama.vocab_size", U32, v),
            ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "smollm"),
            ("tokenizer.ggml.tokens", ARRAY, (STRING, ["<|endoftext|>", "a", "b", "c", "ab", "abc", "\u0120", "H",
                                                       "e", "l", "o", "\u010a"])),
            ("tokenizer.ggml.token_type", ARRAY, (I32, [3] + [1] * 11)),
            ("tokenizer.ggml.merges", ARRAY, (STRING, ["a b", "ab c"])),
            ("tokenizer.ggml.bos_token_id", U32, 0), ("tokenizer.ggml.eos_token_id", U32, 0),
            ("tokenizer.ggml.add_bos_token", BOOL, False)]
    zeros = lambda n: b"\0\0\x80\x3f" * n
    t = [("token_embd.weight", (d, v), 0, zeros(d * v)), ("output_norm.weight", (d,), 0, zeros(d))]
    for name, rows, columns in (("attn_q", d, d), ("attn_k", d, d), ("attn_v", d, d), ("attn_output", d, d),
                                ("ffn_gate", f, d), ("ffn_up", f, d), ("ffn_down", d, f)):
        t.append(("blk.0.%s.weight" % name, (columns, rows), 0, zeros(rows * columns)))
    for name in ("attn_norm", "ffn_norm"):
        t.append(("blk.0.%s.weight" % name, (d,), 0, zeros(d)))
    return gguf(keys, t)


def gguf_all():
    keys = [("k%d" % k, k, 1) for k in FORM] + [("s", STRING, "words"), ("a", ARRAY, (U8, [1, 2, 3])),
                                                ("n", ARRAY, (F32, [0.5, -1.0])), ("t", ARRAY, (STRING, ["x", ""]))]
    blocks = {0: (1, 4), 1: (1, 2), 30: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
              10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210)}
    return gguf(keys, [("t%d" % kind, (n, 1), kind, bytes(range(size))) for kind, (n, size) in blocks.items()])


put("gguf", "llama", llama())
put("gguf", "types", gguf_all())
put("gguf", "empty", gguf([], []))
put("gguf", "version2", gguf([("general.architecture", STRING, "gemma2")], [], 2))

# ---- safetensors
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


def safetensors(tensors, metadata=None):
    head, body = ({"__metadata__": metadata} if metadata else {}), b""
    for name, dtype, shape in tensors:
        count = 1
        for s in shape:
            count *= s
        size = count * SIZES[dtype]
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + size]}
        body += bytes(i % 2 for i in range(size))
    head = json.dumps(head).encode()
    return struct.pack("<Q", len(head)) + head + body


put("safetensors", "types", safetensors([(d.lower(), d, [2, 3]) for d in SIZES], {"format": "pt"}))
put("safetensors", "scalar", safetensors([("a", "F64", []), ("b", "I64", []), ("c", "F32", [0, 4])]))
put("safetensors", "empty", safetensors([]))

# ---- tokenizers
byte_level = {
    "version": "1.0", "truncation": None, "padding": None,
    "added_tokens": [{"id": 0, "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
                      "normalized": False, "special": True}],
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
              "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
              "vocab": {"<|endoftext|>": 0, "H": 1, "e": 2, "l": 3, "o": 4, "He": 5, "ll": 6, "\u0120": 7},
              "merges": ["H e", "l l"]}}
here = os.path.join(os.path.dirname(root), "..", "golden")


def smaller(path):
    """A real tokenizer.json with the pieces after the first few left out."""
    with open(os.path.join(here, path)) as f:
        t = json.load(f)
    keep = set(list(t["model"]["vocab"])[:300]) | {a["content"] for a in t["added_tokens"]}
    t["model"]["vocab"] = {k: v for k, v in t["model"]["vocab"].items() if k in keep}
    merges = [m.split(" ") if isinstance(m, str) else m for m in t["model"]["merges"]]
    t["model"]["merges"] = [m for m in merges if m[0] in keep and m[1] in keep and m[0] + m[1] in keep][:40]
    return json.dumps(t, separators=(",", ":"))


put("tokenizer_json", "byte-level", json.dumps(byte_level))
put("tokenizer_json", "tiny-llama", smaller("tiny-llama/tokenizer.json"))
put("tokenizer_json", "tiny-gemma2", smaller("tiny-gemma2/tokenizer.json"))


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def field(number, wire, body):
    head = varint(number << 3 | wire)
    return head + (varint(len(body)) + body if wire == 2 else body)


def piece(words, score, kind):
    return field(1, 2, field(1, 2, words.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, varint(kind)))


pieces = piece("<pad>", 0, 3) + piece("<eos>", 0, 3) + piece("<bos>", 0, 3) + piece("<unk>", 0, 2)
pieces += b"".join(piece("<0x%02X>" % i, 0, 6) for i in range(256))
pieces += b"".join(piece(c, -i, 1) for i, c in enumerate(["\u2581", "H", "e", "l", "o", "He", "ll", "\u2581\u2581"]))
trainer = field(3, 0, varint(2)) + field(35, 0, varint(1)) + b"".join(field(40 + i, 0, varint(v)) for i, v in
                                                                      enumerate((3, 2, 1, 0)))
normalizer = field(1, 2, b"identity") + field(3, 0, varint(0)) + field(4, 0, varint(0)) + field(5, 0, varint(1))
put("tokenizer_model", "gemma", pieces + field(2, 2, trainer) + field(3, 2, normalizer))
with open(os.path.join(here, "tiny-gemma2/tokenizer.model"), "rb") as f:
    whole = f.read()
    if len(whole) < 32768:
        put("tokenizer_model", "tiny-gemma2", whole)

# ---- config.json of the golden models
for family in ("llama", "gemma2", "gpt2", "gpt_neox", "qwen2", "qwen3"):
    with open(os.path.join(here, "tiny-" + family, "config.json"), "rb") as f:
        put("arch", family, f.read())


# ---- numpy and torch
def npy(shape, descr="<f4"):
    head = "{'descr': '%s', 'fortran_order': False, 'shape': %r, }" % (descr, shape)
    head += " " * (-(len(head) + 11) % 64) + "\n"
    count = 1
    for s in shape:
        count *= s
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(head)) + head.encode() + b"\0\0\x80\x3f" * count


def zipped(files, aligned=False):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as z:
        for name, data in files:
            z.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


put("npz", "gemma-scope", zipped([("W_enc.npy", npy((3, 4))), ("W_dec.npy", npy((4, 3))), ("b_enc.npy", npy((4,))),
                                  ("b_dec.npy", npy((3,))), ("threshold.npy", npy((4,)))]))
put("npz", "scalar", zipped([("a.npy", npy(())), ("b.npy", npy((2, 0), "<f8"))]))


def pickled(names):
    """{'name': tensor, ...} as torch.save writes it, opcode by opcode."""
    s = lambda w: b"X" + struct.pack("<I", len(w)) + w.encode()
    out = b"\x80\x02ccollections\nOrderedDict\n)R("
    for key, (name, shape) in enumerate(names):
        count = 1
        for n in shape:
            count *= n
        stride, strides = 1, []
        for n in reversed(shape):
            strides.insert(0, stride)
            stride *= n
        tup = lambda t: b"(" + b"".join(b"K" + bytes([i]) for i in t) + b"t"
        out += s(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(("
        out += s("storage") + b"ctorch\nFloatStorage\n" + s(str(key)) + s("cpu") + b"K" + bytes([count]) + b"tQ"
        out += b"K\0" + tup(shape) + tup(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return out + b"u."


state = [("encoder.weight", (4, 3)), ("encoder.bias", (4,)), ("decoder.weight", (3, 4)), ("bias", (3,))]
files = [("ae/data.pkl", pickled(state))]
files += [("ae/data/%d" % i, b"\0\0\x80\x3f" * (12 if len(shape) == 2 else shape[0])) for i, (_, shape) in enumerate(state)]
put("torch", "relu", zipped(files + [("ae/version", b"3\n")]))
plain = b"\x80\x02}(X\x01\0\0\0aK\x07X\x01\0\0\0b\x88X\x01\0\0\0cG?\xf0\0\0\0\0\0\0X\x01\0\0\0dX\x04\0\0\0TopKX\x01\0\0\0e}X\x01\0\0\0fM\x01\x02su."
put("torch", "plain", zipped([("x/data.pkl", plain), ("x/version", b"3\n")]))

# ---- text
put("jsonline", "text", '{"meta": {"a": [1, 2.5e3, true, null]}, "text": "caf\\u00e9 \\ud83d\\ude00 \\"x\\"\\n"}')
put("jsonline", "ids", '{"input_ids": [1, 2, 4294967294], "tokens": []}')
put("jsonline", "twice", '{"text": "a", "text": "\\ud800", "tokens": [7]}')
lines = b'{"text": "first"}\n\n{"text": "second \xff"}\n'
put("textfile", "jsonl", b"\x02" + lines)
put("textfile", "txt", b"\x03" + b"\xef\xbb\xbfplain\r\n\r\ntext \xed\xa0\x80\n")
raw = lambda b: b"\x28\xb5\x2f\xfd\x20" + bytes([len(b)]) + struct.pack("<I", len(b) << 3 | 1)[:3] + b
put("textfile", "zst", b"\x00" + raw(lines))
put("textfile", "zst-twice", b"\x01" + raw(b"one\n\n") + raw(b"two\n"))

# ---- the ring in shared memory: an order (fuzz_shmring.c), then head, stamps, payloads
def ring(size, slots, slot, right, stride, key, file_bytes, stamp, head, stamps, payload):
    return (struct.pack("<QHHIQ16sQQ", size, slots, slot, right, stride, key, file_bytes, stamp) + head +
            b"".join(struct.pack("<Q", s) for s in stamps) + payload)


key = bytes(range(16))
head = b"OSAESHM1" + struct.pack("<QQ", 2, 4096) + key
put("shmring", "two", ring(100, 2, 1, 3, 4096, key, 0, 9, head, [7, 9], b"rows of a batch"))
put("shmring", "exact", ring(5000, 3, 0, 2, 8192, key, 8192 + 3 * 8192, 5, b"OSAESHM1" + struct.pack("<QQ", 3, 8192) + key, [5, 0, 6], b"x" * 64))
put("shmring", "put-right", ring(4096, 4, 65535, 15, 0, key, 0, 1, b"", [1, 2, 3, 2**64 - 1], b""))
put("shmring", "no-seals", ring(100, 2, 0, 1, 4096, key, 0, 7, head, [7, 9], b""))
put("shmring", "short-file", ring(100, 2, 0, 2, 4096, key, 12288, 7, head, [7, 9], b""))
put("shmring", "other-key", ring(100, 2, 0, 3, 4096, b"\xff" * 16, 0, 7, head, [7, 9], b""))
put("shmring", "other-stride", ring(100, 2, 0, 3, 8192, key, 0, 7, head, [7, 9], b""))
