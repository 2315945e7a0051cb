import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
from keras import ops

import zdckeras as zdc
from zdckeras.data.particles import Scaler
from zdckeras.export.serving import field, read_fields, read_tensor, tensor
from zdckeras.gan.networks import ResponseNetwork

tf = pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def tool(load_tool):
    return load_tool("check_serving")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    scaler = Scaler.fit(zdc.load("zn", "test", 50).particles).get_config()
    generator = zdc.GanGenerator(ResponseNetwork("zn", scaler, 10, 8, (8,), (4, 4, 2), 2, seed=3))
    return zdc.export_saved_model(generator, tmp_path_factory.mktemp("served") / "gan")


@pytest.fixture(scope="module")
def answer(folder):
    """What a server does with a request: name -> array, in and out."""
    model = tf.saved_model.load(str(folder))

    def answer(inputs, model=model):
        signature = model.signatures["serving_default"]
        return {name: v.numpy() for name, v in signature(**{k: tf.constant(v) for k, v in inputs.items()}).items()}

    return answer


@pytest.fixture(scope="module")
def rest(answer):
    """Address of a server that speaks the REST interface of TensorFlow Serving, with columns."""
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert asked["signature_name"] == "serving_default"
            try:
                made = answer({name: np.array(values, "float32") for name, values in asked["inputs"].items()})
                status, body = 200, {"outputs": next(iter(made.values())).tolist()}  # one output comes without its name
            except tf.errors.InvalidArgumentError as error:
                status, body = 400, {"error": error.message}
            status = 404 if self.path != "/v1/models/gan:predict" else status
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *words):
            """Nothing."""

    server = ThreadingHTTPServer(("localhost", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_port}/v1/models/gan"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def grpc_address(answer):
    grpc = pytest.importorskip("grpc")

    def predict(request, context):
        parts = list(read_fields(request))
        assert dict(read_fields(dict(parts)[1])) == {1: b"gan", 3: b"serving_default"}
        entries = [dict(read_fields(content)) for number, content in parts if number == 2]
        try:
            made = answer({entry[1].decode(): read_tensor(entry[2]) for entry in entries})
        except tf.errors.InvalidArgumentError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
        return b"".join(field(1, field(1, name.encode()) + field(2, tf.make_tensor_proto(v.tolist(), v.dtype, v.shape)
                                                                 .SerializeToString())) for name, v in made.items())

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    server.add_generic_rpc_handlers((
        grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers),))
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


def test_servers_are_asked_and_compared(tool, folder, rest, grpc_address, capsys):
    tool.main([str(folder), "--url", rest, "--grpc", grpc_address])
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said] == ["REST", "gRPC"]
    found = [re.search(r"photons \(32, 44, 44\), (\S+) % elsewhere; .* ms for one", line) for line in said]
    assert all(float(one[1]) < 0.1 for one in found)


def test_the_c_library_answers_the_same(folder, load_tool):
    """In a process of its own: this one has TensorFlow's Python."""
    file = load_tool("check_serving").__file__
    done = subprocess.run([sys.executable, file, str(folder), "--local"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("C library: photons (32, 44, 44), 0")


class Told(zdc.Sampler):
    """One photon in every cell for a neutron, two for anything else."""

    noise_width, detectors, TAKES_IDS = 10, [zdc.detector("zn")], True

    def generate(self, noise, conditions, pdg):
        return (1.0 + ops.cast(pdg != 2112, "float32"))[:, None, None] * ops.ones((1, 44, 44))


def test_models_that_take_ids_are_told_them(tool, load_tool, tmp_path):
    inputs = tool.examples(10, ids=True)
    assert inputs["pdg"].dtype == np.int32 and len(set(inputs["pdg"].tolist())) > 1
    served = zdc.export_saved_model(Told(), tmp_path / "told", ids=True)
    done = subprocess.run([sys.executable, load_tool("check_serving").__file__, str(served), "--local"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("C library: photons (32, 44, 44), 0 % elsewhere")


def test_answers_that_differ_or_should_have_been_refused(tool, folder, answer):
    inputs = tool.examples(10)
    true = answer(inputs)
    with pytest.raises(SystemExit, match="expected photons as TensorFlow's Python gives it, received answers with"):
        tool.compare("x", lambda given: answer({**given, "noise": -given["noise"]}), inputs, true)
    with pytest.raises(SystemExit, match="x: expected a refusal of energies below 0, received an answer"):
        tool.compare("x", lambda given: answer({**given, "condition": np.abs(given["condition"])}), {
            **inputs, "condition": np.abs(inputs["condition"])}, answer({**inputs, "condition": np.abs(
                inputs["condition"])}))


def test_particles_are_those_of_the_detector(tool, folder, tmp_path):
    """ZP's own: particles of ZN leave no light there, and what is dark agrees with everything."""
    particles = zdc.load("zp", "test", 40).particles
    scaler = Scaler.fit(particles).get_config()
    both = {name: zdc.export_saved_model(zdc.GanGenerator(ResponseNetwork(names, scaler, 10, 8, (8,), (4, 4, 2), 2,
                                                                          seed=3)), tmp_path / name)
            for name, names in (("zp", "zp"), ("both", ("zn", "zp")))}
    assert [tool.detectors_of(place) for place in (folder, both["zp"], both["both"])] == ["zn", "zp", "zn+zp"]
    assert np.array_equal(tool.examples(10, "zp")["condition"], particles[:32].astype("float32"))
    dark = {"photons": np.zeros((32, 56, 30))}
    with pytest.raises(SystemExit, match="x: expected light to compare, received none in photons"):
        tool.compare("x", lambda given: dark, tool.examples(10, "zp"), dark)


def test_wrong_addresses_and_folders(tool, folder, rest, tmp_path, capsys):
    with pytest.raises(SystemExit, match="No server answers at http://localhost:1"):
        tool.main([str(folder), "--url", "http://localhost:1/v1/models/gan"])
    with pytest.raises(ValueError, match="other:predict: 404"):
        tool.main([str(folder), "--url", rest.replace("gan", "other")])
    for words, message in (([str(folder)], "expected --url, --grpc or --local"),
                           ([str(tmp_path), "--local"], "expected a folder with saved_model.pb")):
        with pytest.raises(SystemExit, match="2"):
            tool.main(words)
        assert message in capsys.readouterr().err


def test_signatures_are_read_from_the_file(tool, folder):
    found = tool.signatures(folder)
    assert set(found) >= {"serving_default", "sample", "sample_rows"}
    assert set(found["sample"]["inputs"]) == {"condition", "seed"} and tool.noise_width(folder) == 10
    assert list(found["serving_default"]["outputs"]) == ["photons"]
    assert tensor(np.zeros(3, "float32")) == tf.make_tensor_proto(0.0, "float32", [3]).SerializeToString()
