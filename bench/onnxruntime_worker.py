"""The ONNX Runtime side of layer.py: worker/main.go's twin, with the same questions and answers.

    onnxruntime_worker.py MODEL.onnx INPUTS.npz THREADS [none]

With none, it optimises nothing.
"""
import json
import sys
import time


def peak_kb():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))


def main(path, inputs, threads, level="all"):
    import numpy
    import onnxruntime

    start_kb = peak_kb()  # the interpreter and both libraries: none of it is the model's
    options = onnxruntime.SessionOptions()
    levels = {"all": onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL, "none": onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL}
    options.graph_optimization_level = levels[level]
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    begin = time.perf_counter()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    opened = (time.perf_counter() - begin) * 1e3
    with numpy.load(inputs) as arrays:
        feeds = {name: arrays[name] for name in arrays.files}

    def answer(**reply):
        print(json.dumps(reply), flush=True)

    answer(version=onnxruntime.__version__, open_ms=opened)
    results = None
    for line in sys.stdin:
        verb, _, argument = line.rstrip("\n").partition(" ")
        if verb == "run":
            results = None  # the memory of the last results is free for the next ones
            begin = time.perf_counter()
            results = session.run(None, feeds)
            answer(ms=(time.perf_counter() - begin) * 1e3)
        elif verb == "memory":
            answer(start_kb=start_kb, peak_kb=peak_kb())
        elif verb == "save":
            numpy.savez(argument, **{o.name: r for o, r in zip(session.get_outputs(), results)})
            answer(saved=argument)
        else:
            sys.exit(f"{line!r}: want run, memory or save FILE")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:])
