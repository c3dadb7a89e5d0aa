"""The clinic: what is wrong inside a network, in plain words, with the numbers seen and a change to try.

    for finding in engram.examine(net, dataset):          # before training, any nn.Module
        print(finding)

    clinic = engram.Clinic(net, optimizer, probe=(x, y))  # around anyone's own loop
    for x, y in batches:
        ...; optimizer.step()
        for finding in clinic.step(loss):
            print(finding)

`measured.py` says what is measured, `probe.py` measures it, one file of `diagnoses/` a diagnosis judges it, and
`finding.py` is what it says. Every threshold is a named constant in the file of its diagnosis, with its source.
"""
