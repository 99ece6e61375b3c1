# What people read: tables, figures, one page.


rule tables:
    input:
        PIPELINE["tables"].inputs,
    output:
        directory(PIPELINE["tables"].folders),
    log:
        f"logs/tables/{PRESET['name']}.log",
    benchmark:
        f"logs/benchmark/tables/{PRESET['name']}.tsv"
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        command=PIPELINE["tables"].command,
        tracked=PIPELINE["tables"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule figures:
    input:
        PIPELINE["figures"].inputs,
    output:
        directory(PIPELINE["figures"].folders),
    log:
        f"logs/figures/{PRESET['name']}.log",
    benchmark:
        f"logs/benchmark/figures/{PRESET['name']}.tsv"
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        command=PIPELINE["figures"].command,
        tracked=PIPELINE["figures"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"


rule report:
    input:
        PIPELINE["report"].inputs,
    output:
        PIPELINE["report"].files,
    log:
        f"logs/report/{PRESET['name']}.log",
    benchmark:
        f"logs/benchmark/report/{PRESET['name']}.tsv"
    conda:
        "../envs/noisyvos.yaml"
    resources:
        mem_mb=2000,
        runtime=60,
    params:
        command=PIPELINE["report"].command,
        tracked=PIPELINE["report"].tracked,
    shell:
        "NOISYVOS_WORKERS={threads} {params.command} > {log} 2>&1"
