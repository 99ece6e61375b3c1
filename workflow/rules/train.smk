# Training: on a GPU where there is one. The lease picks a free one; without a GPU the command just runs.


rule pretrain:
    input:
        PIPELINE["pretrain"].inputs,
    output:
        PIPELINE["pretrain"].files,
    log:
        "logs/pretrain/{key}.log",
    benchmark:
        "logs/benchmark/pretrain/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["pretrain"].keys,
    retries: 2
    conda:
        "../envs/noisyvos.yaml"
    threads: TRAIN_THREADS
    resources:
        gpu=GPUS_PER_TRAINING,
        mem_mb=TRAIN_MEMORY,
        runtime=2880,
    params:
        command=PIPELINE["pretrain"].command,
        tracked=PIPELINE["pretrain"].tracked,
    shell:
        "python -m noisyvos.pipeline.gpu_lease --need {resources.gpu} -- {params.command} > {log} 2>&1"


rule train:
    input:
        PIPELINE["train"].inputs,
    output:
        PIPELINE["train"].files,
    log:
        "logs/train/{key}.log",
    benchmark:
        "logs/benchmark/train/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["train"].keys,
    retries: 2
    conda:
        "../envs/noisyvos.yaml"
    threads: TRAIN_THREADS
    resources:
        gpu=GPUS_PER_TRAINING,
        mem_mb=TRAIN_MEMORY,
        runtime=1440,
    params:
        command=PIPELINE["train"].command,
        tracked=PIPELINE["train"].tracked,
    shell:
        "python -m noisyvos.pipeline.gpu_lease --need {resources.gpu} -- {params.command} > {log} 2>&1"
