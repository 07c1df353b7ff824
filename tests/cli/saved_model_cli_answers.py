"""What TensorFlow's own saved_model_cli says:  python saved_model_cli_answers.py < JOBS

JOBS is a JSON list, of ``["show", folder]`` or ``["run", folder, signature, inputs, input_exprs, input_examples,
outdir]`` each. It prints a JSON list with what the tool printed for each. One process for all: importing TensorFlow
takes seconds.
"""

import contextlib
import io
import json
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from tensorflow.python.tools import saved_model_cli as tool

answers = []
for command, folder, *arguments in json.load(sys.stdin):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        if command == "show":
            tool._show_all(folder)
        else:
            signature, inputs, expressions, examples, outdir = arguments
            feeds = tool.load_inputs_from_input_arg_string(inputs, expressions, examples)
            tool.run_saved_model_with_feed_dict(folder, "serve", signature, feeds, outdir, True)
    answers.append(printed.getvalue())
json.dump(answers, sys.stdout)
