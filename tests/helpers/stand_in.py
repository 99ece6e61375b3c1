"""Source text for stand-ins of `noisyvos`: what a stage would have written, planted at once.

It is put before the text of a test, which then has `plant_training` and `plant_scores`.
"""

PLANT = """
import json, os, sys, time
from pathlib import Path
words = sys.argv[1:]
value = dict(zip(words, words[1:]))

def plant_training():  # the summary and the curve; the stand-in makes the weights
    global words
    folder = Path(value["--summary"]).parent
    folder.mkdir(parents=True, exist_ok=True)
    noise = {"kind": "clean" if "-clean-" in str(folder) else "dilate", "q": None}
    Path(value["--summary"]).write_text(json.dumps({"noise": noise | {"q_achieved": 0.9}}))
    Path(value["--curve"]).write_text("iteration,loss\\n0,1.0\\n1,0.5\\n")
    words = [word for word in words if word not in ("--summary", "--curve")]

def plant_scores(first, second):  # (J, F) of object 1 in videos a and b
    folder = Path(value["--out"])
    folder.mkdir(parents=True, exist_ok=True)
    head = "sequence,object,J-Mean,J-Recall,J-Decay,F-Mean,F-Recall,F-Decay"
    rows = [f"{name},1,{j},1,0,{f},1,0" for name, (j, f) in (("a", first), ("b", second))]
    (folder / "objects.csv").write_text("\\n".join([head, *rows]) + "\\n")
"""
