// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "torch_accelerated/data/batch_source.h"
#include "torch_accelerated/data/dataset.h"

namespace torch_accelerated {

/// How batches are made of a dataset.
struct DataLoaderOptions {
  std::int64_t batch_size = 8;        ///< rows, of all ranks together; of an update with `shards`
  bool shuffle = false;               ///< a new order each epoch, a pure function of (seed, epoch)
  bool drop_last = false;             ///< leaves out the short batch at the end
  int num_workers = 0;                ///< threads that read ahead; 0 reads in the caller's
  std::int64_t prefetch_batches = 2;  ///< read ahead at most, for each worker
  std::uint64_t seed = 0;             ///< of the order and of the samples' random streams
  std::optional<std::int64_t> limit_batches = {};  ///< of an epoch, at most
  c10::Device device = c10::kCPU;  ///< where batches are wanted; pinned and copied on the way
  bool is_shared = true;           ///< whether an Accelerator cuts it among its ranks
  int rank = 0;                    ///< whose part of each update's rows is read
  int world_size = 1;              ///< parts of an update's rows, one for each rank
  bool borrow_row = false;         ///< one of another rank's where a part has none
  std::int64_t window = 1;         ///< batches of an update
  std::int64_t shards = 0;  ///< cuts an update's rows into so many batches, each rank reading its
                            ///< share of them; 0 for none; then `window` counts for nothing
};

/// Reads a dataset batch by batch, ahead of the caller where there are workers.
///
/// Gives the same batches for any number of workers. With several ranks, each gets its part of
/// the rows that one process would read; a part without rows is an empty batch, or a borrowed row.
/// One thread calls it.
class DataLoader : public BatchSource {
 public:
  /// @throws ArgumentError  an empty dataset, or options out of range (all told at once).
  DataLoader(Dataset dataset, DataLoaderOptions options);
  ~DataLoader() override;
  DataLoader(const DataLoader&) = delete;
  DataLoader& operator=(const DataLoader&) = delete;

  /// The next batch, after all batches before it, whichever was read first.
  /// @throws DataError  what reading the batch threw, with the batch's first and last sample and,
  ///                    where single samples are read, the one that failed; the original is nested
  ///                    in it. The position stays: the next call tries again.
  std::optional<Batch> next() override;

  std::optional<std::int64_t> size() const override;
  void start_epoch(std::int64_t epoch) override;
  void set_window(std::int64_t batches) override;
  std::optional<std::int64_t> rows_of(std::int64_t first, std::int64_t count) const override;

  bool is_borrowed() const override;
  std::int64_t epoch() const noexcept;

  /// Batches of this epoch that the caller has got, whatever has been read ahead.
  std::int64_t position() const noexcept;

  /// Goes on as if `batches` of `epoch` had been got; it always can.
  /// @throws ArgumentError  a negative epoch, or a position outside [0, size()].
  bool set_position(std::int64_t epoch, std::int64_t batches) override;

  const DataLoaderOptions& options() const noexcept;

  /// Of the dataset.
  std::int64_t samples() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace torch_accelerated
