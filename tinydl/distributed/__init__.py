"""Data parallelism: one program, started once for each rank, on MPI (CPUs) or NCCL (GPUs).

    mpiexec -n 4 python train.py

    group = td.distributed.world()                                  # 4 ranks; started alone, 1
    model = DataParallel(nn.SyncBatchNorm.convert_sync_batchnorm(net), group)
    loader = DataLoader(train, 50, shuffle=True, group=group)       # this rank's rows of each batch of 50
    objective = Objective(model, td.cross_entropy, [DataGrad(50.0)])

    @td.record
    def step(x, y):
        optimizer.zero_grad()
        objective(x, y).total.backward()
        model.average_gradients()
        optimizer.step()

    for x, y in loader:
        with group.shard(x.shape[0]):                               # which samples of the batch these are
            step(x, y)

**Convention.** What is differentiated is the sum of the ranks' losses; an all-reduce is then its own
transpose, and derivatives of every order exist. In the scope of a shard an Objective's total is this rank's
part, share · (the mean over its samples); with a loss of one's own it is `shard.share * loss`. Unequal
shards are weighted exactly, by their samples. A loss that all ranks compute alike would count once for
each.

**The same numbers.** Ranks together compute what one process computes on the whole batch, to rounding, and
the same bits at each run with as many ranks: sums are made in the order of the ranks. Samples, changed
pictures, dropout and per-sample noise depend on the seed and the place in the global batch alone, not on
who computes them. A checkpoint (`save_checkpoint`: rank 0 writes, all read) goes on with any number of
ranks.

**Penalties.** Which of three kinds a term is decides what ranks must tell each other:

    means over samples    The losses, DataGrad, SpectReg, Jacobians, VAT, adversaries, distillation, noise,
                          ...: local means times the share, summed once, with the gradients. Those of
                          parameters alone (L2, spectral norms) are the same on all ranks, and count by the
                          share, too.
    coupled, and reduced  Samples meet: sums over the ranks on the tape. SyncBatchNorm, class and sample
                          weights, GradientNorm, FisherPenalty, KLSparsity, DeCov, FeatureStatistics,
                          FeatureMatching, MinibatchDiscrimination, TrainingSignalAnnealing, GradNorm,
                          TemporalEnsemble, SpectReg with one r a batch; Mixup, ManifoldMixup, CutMix and
                          SamplePairing, whose partners are any rank's.
    coupled, and refused  Barlow, Dragan, `combine=`; BatchNorm in training; any term with `coupled = True`
                          and not `reduces = True`: an error in the place of a value of this rank's samples
                          alone.

Norms of gradients (clipping, SAM, LARS, LAMB) are taken of the averaged gradients, which all ranks have
in full, so they are the global ones and nothing is told; only who keeps a part of the parameters on each
rank would sum squared norms first, by `group.all_reduce`. `unlabeled=` and `fake=` batches have to be
shared in the proportions of the batch.

**Ends.** An error that nobody catches ends all ranks, with a line that names its rank; so do Ctrl-C and a
rank that is killed or leaves early. Every rank makes the same calls in the same order; what only one of
them does (writing, downloads) goes into `group.first(function)`.

`pip install "tinydl[mpi]"` brings MPI without root. NCCL (`nccl()`) was run on a stand-in, on no device.
"""

from ..rooms import collect

__all__ = collect(__name__)
