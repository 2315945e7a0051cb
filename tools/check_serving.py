"""Ask a TensorFlow Serving for showers over REST and gRPC, or the C library of TensorFlow, and compare the answers.

    zdckeras export zn served/
    docker run -p 8500:8500 -p 8501:8501 -v $PWD/served:/models/zn -e MODEL_NAME=zn tensorflow/serving
    python tools/check_serving.py served/1 --url http://localhost:8501/v1/models/zn --grpc localhost:8500
    python tools/check_serving.py served/1 --local      # without a server: TensorFlow's C library loads the model

What is right is what TensorFlow's Python answers from the same folder, in a process of its own. The server gets 32
particles of the reference simulation with fixed noise, all at once and one by one, and some that it has to refuse.
gRPC needs grpcio; messages are written and read by `zdckeras.export.serving`, as bytes.
"""

import argparse
import ctypes
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from zdckeras.campaign import answers
from zdckeras.command import run
from zdckeras.export.serving import predict_request, read_fields, read_response, read_tensor

ROWS = 32
TRUTH = """
import sys
import numpy as np
import tensorflow as tf

folder, inputs, outputs = sys.argv[1:]
signature = tf.saved_model.load(folder).signatures["serving_default"]
with np.load(inputs) as file:
    made = signature(**{name: tf.constant(file[name]) for name in file.files})
np.savez(outputs, **{name: values.numpy() for name, values in made.items()})
"""


def signatures(folder):
    """Names of signatures, with those of their inputs and outputs: {"inputs": {alias: tensor}, "outputs": ...}."""
    found = {}
    graphs = [content for number, content in read_fields((Path(folder) / "saved_model.pb").read_bytes()) if number == 2]
    for graph in graphs:
        for entry in (content for number, content in read_fields(graph) if number == 5):
            parts = dict(read_fields(entry))
            ends = {"inputs": {}, "outputs": {}}
            for number, content in read_fields(parts[2]):
                if number in (1, 2):
                    alias = dict(read_fields(content))
                    ends[("inputs", "outputs")[number - 1]][alias[1].decode()] = dict(read_fields(alias[2]))[1].decode()
            found[parts[1].decode()] = ends
    return found


def detectors_of(folder):
    """The model's detectors, "zn" or "zn+zp": by the names of its outputs, or the shape of the only one.

    Raises:
        ValueError: for a shape of no known detector.
    """
    return "+".join(sorted(answers.detectors_of(_outputs(folder), folder).values()))


def _outputs(folder):
    """Name -> (nx, ny) of the outputs of serving_default."""
    found = {}
    for graph in (content for number, content in read_fields((Path(folder) / "saved_model.pb").read_bytes())
                  if number == 2):
        for parts in (dict(read_fields(content)) for number, content in read_fields(graph) if number == 5):
            if parts[1] == b"serving_default":
                for entry in (dict(read_fields(content)) for number, content in read_fields(parts[2]) if number == 2):
                    dims = [dict(read_fields(size)).get(1, 0) for number, size in
                            read_fields(dict(read_fields(entry[2]))[3]) if number == 2]
                    found[entry[1].decode()] = tuple(dims[1:])
    return found


def examples(width, detectors="zn", ids=False):
    """Inputs of serving_default: particles that leave light in these detectors, noise and, if asked for, PDG ids."""
    from zdckeras.simulation.reference import load

    noise, showers = np.random.default_rng(3).standard_normal((ROWS, width), "float32"), load(detectors, "test", ROWS)
    found = {"condition": showers.particles[:ROWS].astype("float32"), "noise": noise}
    return found | ({"pdg": showers.pdg[:ROWS].astype("int32")} if ids else {})


def noise_width(folder):
    """Numbers of noise a shower takes, out of the request to warm up with."""
    record = (Path(folder) / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    request = dict(read_fields(dict(read_fields(record[12 : 12 + int.from_bytes(record[:8], "little")]))[6]))[1]
    inputs = (dict(read_fields(content)) for number, content in read_fields(request) if number == 2)
    return next(read_tensor(entry[2]).shape[1] for entry in inputs if entry[1] == b"noise")


def by_tensorflow(folder, inputs):
    """What TensorFlow's Python answers, in a process of its own."""
    with TemporaryDirectory() as scratch:
        np.savez(Path(scratch) / "in.npz", **inputs)
        subprocess.run([sys.executable, "-c", TRUTH, folder, "in.npz", "out.npz"], cwd=scratch, check=True)
        with np.load(Path(scratch) / "out.npz") as file:
            return dict(file)


class Rest:
    """The REST interface of a server: POST <url>:predict with columns of values."""

    def __init__(self, url):
        self.url = url.rstrip("/").removesuffix(":predict") + ":predict"

    def __call__(self, inputs):
        body = {"signature_name": "serving_default", "inputs": {name: v.tolist() for name, v in inputs.items()}}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                outputs = json.load(answer)["outputs"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{self.url}: {error.code}, {error.read().decode(errors='replace')[:300]}") from None
        except OSError as error:
            raise SystemExit(f"No server answers at {self.url}: {error}") from None
        return outputs if isinstance(outputs, dict) else {"": outputs}


class Grpc:
    """The gRPC interface of a server: PredictionService/Predict."""

    def __init__(self, address, model):
        import grpc

        self.failure, self.model, channel = grpc.RpcError, model, grpc.insecure_channel(address, [
            ("grpc.max_receive_message_length", -1)])
        self.ask = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")

    def __call__(self, inputs):
        try:
            return read_response(self.ask(predict_request(inputs, model=self.model), timeout=60))
        except self.failure as error:
            if error.code().name == "UNAVAILABLE":
                raise SystemExit(f"No server answers: {error.details()}") from None
            raise ValueError(f"{error.code().name}, {error.details()[:300]}") from None


class Local:
    """TensorFlow's C library, as C and C++ programs use it: TF_LoadSessionFromSavedModel and TF_SessionRun."""

    def __init__(self, folder):
        from importlib.util import find_spec

        spec = find_spec("tensorflow")
        if spec is None:
            raise SystemExit("Expected an installed TensorFlow, whose C library is asked; received none.")
        place = Path(spec.origin).parent
        ctypes.CDLL(str(place / "libtensorflow_framework.so.2"), ctypes.RTLD_GLOBAL)
        self.c, self.ends = ctypes.CDLL(str(place / "libtensorflow_cc.so.2")), signatures(folder)["serving_default"]
        for name in ("NewStatus", "NewSessionOptions", "NewGraph", "NewBuffer", "LoadSessionFromSavedModel", "Message",
                     "GraphOperationByName", "AllocateTensor", "TensorData"):
            getattr(self.c, f"TF_{name}").restype = ctypes.c_void_p
        self.c.TF_Dim.restype = ctypes.c_int64
        self.status = ctypes.c_void_p(self.c.TF_NewStatus())
        self.graph, tags = ctypes.c_void_p(self.c.TF_NewGraph()), (ctypes.c_char_p * 1)(b"serve")
        self.session = ctypes.c_void_p(self.c.TF_LoadSessionFromSavedModel(
            ctypes.c_void_p(self.c.TF_NewSessionOptions()), None, str(folder).encode(), tags, 1, self.graph,
            ctypes.c_void_p(self.c.TF_NewBuffer()), self.status))
        self._check()

    def _check(self):
        if self.c.TF_GetCode(self.status):
            raise ValueError(ctypes.string_at(self.c.TF_Message(self.status)).decode()[:300])

    def _end(self, name):
        operation, _, index = name.partition(":")
        return Output(self.c.TF_GraphOperationByName(self.graph, operation.encode()), int(index))

    def _tensor(self, values):
        kind, values = {"f": 1, "i": 3}[values.dtype.kind], np.ascontiguousarray(values)
        dims = (ctypes.c_int64 * values.ndim)(*values.shape)
        made = self.c.TF_AllocateTensor(kind, dims, values.ndim, ctypes.c_size_t(values.nbytes))
        ctypes.memmove(self.c.TF_TensorData(ctypes.c_void_p(made)), values.ctypes.data, values.nbytes)
        return made

    def _values(self, pointer):
        one = ctypes.c_void_p(pointer)
        shape = [self.c.TF_Dim(one, k) for k in range(self.c.TF_NumDims(one))]
        kind = {1: "f4", 3: "i4"}[self.c.TF_TensorType(one)]
        data = ctypes.string_at(self.c.TF_TensorData(one), 4 * int(np.prod(shape)))
        self.c.TF_DeleteTensor(one)
        return np.frombuffer(data, kind).reshape(shape)

    def __call__(self, inputs):
        given, asked = self.ends["inputs"], self.ends["outputs"]
        fed = [self._tensor(inputs[name]) for name in given]
        tensors, made = (ctypes.c_void_p * len(fed))(*fed), (ctypes.c_void_p * len(asked))()
        self.c.TF_SessionRun(
            self.session, None, (Output * len(given))(*map(self._end, given.values())), tensors, len(given),
            (Output * len(asked))(*map(self._end, asked.values())), made, len(asked), None, 0, None, self.status)
        for one in fed:
            self.c.TF_DeleteTensor(ctypes.c_void_p(one))
        self._check()
        return {name: self._values(pointer) for name, pointer in zip(asked, made, strict=True)}


class Output(ctypes.Structure):
    """TF_Output: an operation and which of its outputs."""

    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def compare(name, ask, inputs, true):
    """A line on how answers compare: all particles at once, one by one, and what has to be refused.

    Raises:
        SystemExit: for answers that differ by more than a photon in a thousand, or that should have been refused; and
            for a truth without light, with which everything dark would agree.
    """
    if dark := [key for key, right in true.items() if not np.abs(right).sum()]:
        raise SystemExit(f"{name}: expected light to compare, received none in {', '.join(dark)} from TensorFlow's "
                         "Python.")
    begin = time.perf_counter()
    made = ask(inputs)
    seconds = time.perf_counter() - begin
    made = {next(iter(true)): made[""]} if set(made) == {""} else made
    if set(made) != set(true):
        raise SystemExit(f"{name}: expected outputs {', '.join(true)}, received {', '.join(made)}.")
    begin = time.perf_counter()
    alone = [ask({key: values[k : k + 1] for key, values in inputs.items()}) for k in range(ROWS)]
    each = (time.perf_counter() - begin) / ROWS
    lines = []
    for key, right in true.items():
        one = np.concatenate([np.asarray(next(iter(answer.values())) if len(true) == 1 else answer[key])
                              for answer in alone])
        moved = [np.abs(np.asarray(found, "float64") - right).sum() / 2 / max(np.abs(right).sum(), 1)
                 for found in (made[key], one)]
        if max(moved) > 1e-3:
            raise SystemExit(f"{name}: expected {key} as TensorFlow's Python gives it, received answers with "
                             f"{100 * max(moved):.2g} % elsewhere.")
        lines.append(f"{key} {np.shape(made[key])}, {100 * max(moved):.2g} % elsewhere")
    for what, wrong in (("energies below 0", {"condition": -inputs["condition"]}),
                        ("a row of noise too few", {"noise": inputs["noise"][1:]})):
        try:
            ask({**inputs, **wrong})
        except ValueError:
            continue
        raise SystemExit(f"{name}: expected a refusal of {what}, received an answer.")
    print(f"{name}: {'; '.join(lines)}; {1e3 * seconds:.1f} ms for {ROWS} showers, {1e3 * each:.1f} ms for one")


def main(arguments=None):
    """Ask and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the version that the server has, as from `zdckeras export`")
    parser.add_argument("--url", help="of the model, for REST: http://host:8501/v1/models/name")
    parser.add_argument("--grpc", metavar="HOST:PORT", help="of the server, for gRPC")
    parser.add_argument("--model", help="its name there (default: that of the folder around the version)")
    parser.add_argument("--local", action="store_true", help="ask TensorFlow's C library in place of a server")
    options = parser.parse_args(arguments)
    if not (options.url or options.grpc or options.local):
        parser.error("expected --url, --grpc or --local, received none of them")
    if not (options.folder / "saved_model.pb").is_file():
        parser.error(f"expected a folder with saved_model.pb, received {options.folder}")
    folder = options.folder.resolve()
    asks_ids = "pdg" in signatures(folder)["serving_default"]["inputs"]
    inputs = examples(noise_width(folder), detectors_of(folder), asks_ids)
    asked = {}
    if options.local:
        asked["C library"] = Local(folder)
    if options.url:
        asked["REST"] = Rest(options.url)
    if options.grpc:
        asked["gRPC"] = Grpc(options.grpc, options.model or folder.parent.name)
    for ask in asked.values():
        ask({name: values[:1] for name, values in inputs.items()})  # a wrong address is told at once
    true = by_tensorflow(folder, inputs)
    for name, ask in asked.items():
        compare(name, ask, inputs, true)


if __name__ == "__main__":
    run(main)
