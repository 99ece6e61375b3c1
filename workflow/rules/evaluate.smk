# Predictions of every trained cell and of the two baselines, and their scores.


rule baseline:
    input:
        PIPELINE["baseline"].inputs,
    output:
        PIPELINE["baseline"].files,
    log:
        "logs/baseline/{key}.log",
    benchmark:
        "logs/benchmark/baseline/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["baseline"].keys,
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        command=PIPELINE["baseline"].command,
        tracked=PIPELINE["baseline"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule infer:
    input:
        PIPELINE["infer"].inputs,
    output:
        PIPELINE["infer"].files,
    log:
        "logs/infer/{key}.log",
    benchmark:
        "logs/benchmark/infer/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["infer"].keys,
    retries: 1
    conda:
        "../envs/noisyvos.yaml"
    resources:
        gpu=1,
        mem_mb=TRAIN_MEMORY,
        runtime=240,
    params:
        command=PIPELINE["infer"].command,
        tracked=PIPELINE["infer"].tracked,
    shell:
        "python -m noisyvos.gpus --need {resources.gpu} -- {params.command} > {log} 2>&1"


rule score:
    input:
        PIPELINE["score"].inputs,
    output:
        directory(PIPELINE["score"].folders),
    log:
        "logs/score/{key}.log",
    benchmark:
        "logs/benchmark/score/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["score"].keys,
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        command=PIPELINE["score"].command,
        tracked=PIPELINE["score"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"
