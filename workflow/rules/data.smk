# From nothing or raw files to training material: generated or hand-fetched files, one layout, clips, label noise.


rule generate:
    input:
        PIPELINE["generate"].inputs,
    output:
        PIPELINE["generate"].files,
        directory(PIPELINE["generate"].folders),
    log:
        "logs/generate/{key}.log",
    benchmark:
        "logs/benchmark/generate/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["generate"].keys,
    conda:
        "../envs/noisyvos.yaml"
    threads: 8
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        command=PIPELINE["generate"].command,
        tracked=PIPELINE["generate"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule download:
    input:
        PIPELINE["download"].inputs,
    output:
        PIPELINE["download"].files,
    log:
        "logs/download/{key}.log",
    benchmark:
        "logs/benchmark/download/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["download"].keys,
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=1000,
        runtime=240,
    params:
        command=PIPELINE["download"].command,
        tracked=PIPELINE["download"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule convert:
    input:
        PIPELINE["convert"].inputs,
    output:
        directory(PIPELINE["convert"].folders),
    log:
        "logs/convert/{key}.log",
    benchmark:
        "logs/benchmark/convert/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["convert"].keys,
    conda:
        "../envs/noisyvos.yaml"
    threads: 4
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        command=PIPELINE["convert"].command,
        tracked=PIPELINE["convert"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule mix:
    input:
        PIPELINE["mix"].inputs,
    output:
        directory(PIPELINE["mix"].folders),
    log:
        "logs/mix/{key}.log",
    benchmark:
        "logs/benchmark/mix/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["mix"].keys,
    conda:
        "../envs/noisyvos.yaml"
    threads: 2
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        command=PIPELINE["mix"].command,
        tracked=PIPELINE["mix"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule synth:
    input:
        PIPELINE["synth"].inputs,
    output:
        directory(PIPELINE["synth"].folders),
    log:
        "logs/synth/{key}.log",
    benchmark:
        "logs/benchmark/synth/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["synth"].keys,
    conda:
        "../envs/noisyvos.yaml"
    threads: 8
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        command=PIPELINE["synth"].command,
        tracked=PIPELINE["synth"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule noise:
    input:
        PIPELINE["noise"].inputs,
    output:
        PIPELINE["noise"].files,
    log:
        "logs/noise/{key}.log",
    benchmark:
        "logs/benchmark/noise/{key}.tsv"
    wildcard_constraints:
        key=PIPELINE["noise"].keys,
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        command=PIPELINE["noise"].command,
        tracked=PIPELINE["noise"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"
