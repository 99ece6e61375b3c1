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
        "python -m noisyvos.pipeline.gpu_lease --need {resources.gpu} -- {params.command} > {log} 2>&1"


rule baseline_noisy:
    input:
        PIPELINE["baseline_noisy"].inputs,
    output:
        PIPELINE["baseline_noisy"].files,
    log:
        "logs/baseline_noisy/{key}.log",
    benchmark:
        "logs/benchmark/baseline_noisy/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["baseline_noisy"].keys,
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        command=PIPELINE["baseline_noisy"].command,
        tracked=PIPELINE["baseline_noisy"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule infer_noisy:
    input:
        PIPELINE["infer_noisy"].inputs,
    output:
        PIPELINE["infer_noisy"].files,
    log:
        "logs/infer_noisy/{key}.log",
    benchmark:
        "logs/benchmark/infer_noisy/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["infer_noisy"].keys,
    retries: 1
    conda:
        "../envs/noisyvos.yaml"
    resources:
        gpu=1,
        mem_mb=TRAIN_MEMORY,
        runtime=240,
    params:
        command=PIPELINE["infer_noisy"].command,
        tracked=PIPELINE["infer_noisy"].tracked,
    shell:
        "python -m noisyvos.pipeline.gpu_lease --need {resources.gpu} -- {params.command} > {log} 2>&1"


rule infer_corrupted:
    input:
        PIPELINE["infer_corrupted"].inputs,
    output:
        PIPELINE["infer_corrupted"].files,
    log:
        "logs/infer_corrupted/{key}.log",
    benchmark:
        "logs/benchmark/infer_corrupted/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["infer_corrupted"].keys,
    retries: 1
    conda:
        "../envs/noisyvos.yaml"
    resources:
        gpu=1,
        mem_mb=TRAIN_MEMORY,
        runtime=240,
    params:
        command=PIPELINE["infer_corrupted"].command,
        tracked=PIPELINE["infer_corrupted"].tracked,
    shell:
        "python -m noisyvos.pipeline.gpu_lease --need {resources.gpu} -- {params.command} > {log} 2>&1"


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
