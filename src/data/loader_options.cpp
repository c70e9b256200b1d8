// SPDX-License-Identifier: Apache-2.0
#include "data/loader_options.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "base/text.h"
#include "torch_accelerated/base/check.h"

namespace torch_accelerated {
namespace {

int devices_of(c10::DeviceType type) {
  if (!c10::impl::hasDeviceGuardImpl(type)) return 0;
  return c10::impl::VirtualGuardImpl(type).deviceCount();
}

}  // namespace

DataLoaderOptions resolved(DataLoaderOptions asked, std::int64_t samples) {
  OptionCheck check("DataLoader");
  check.require(samples > 0, concat("the dataset is empty (its size is ", samples,
                                    "); give one that has at least one sample"));
  check.require(asked.batch_size >= 1,
                concat("batch_size must be >= 1 row, got ", asked.batch_size));
  check.require(!asked.drop_last || samples <= 0 || asked.batch_size <= samples,
                concat("drop_last leaves nothing of ", samples, " samples in batches of ",
                       asked.batch_size, "; set drop_last = false or batch_size <= ", samples));
  check.require(asked.num_workers >= 0, concat("num_workers must be >= 0, got ", asked.num_workers,
                                               "; 0 reads in the caller's thread"));
  check.require(asked.prefetch_batches >= 1,
                concat("prefetch_batches must be >= 1, got ", asked.prefetch_batches,
                       "; num_workers = 0 reads nothing ahead"));
  check.require(!asked.limit_batches || *asked.limit_batches >= 1,
                concat("limit_batches must be >= 1, got ", asked.limit_batches.value_or(0),
                       "; leave it unset to read all batches"));
  check.require(asked.world_size >= 1, concat("world_size must be >= 1, got ", asked.world_size));
  check.require(asked.rank >= 0 && asked.rank < std::max(asked.world_size, 1),
                concat("rank must be in [0, ", asked.world_size, "), got ", asked.rank));
  check.require(asked.window >= 1, concat("window must be >= 1 batch, got ", asked.window));
  check.require(asked.shards >= 0 && asked.shards % std::max(asked.world_size, 1) == 0,
                concat("shards must be a multiple of the ", asked.world_size, " ranks, got ",
                       asked.shards, "; 0 is for none"));
  if (asked.device.is_cuda()) {
    const int count = devices_of(asked.device.type());
    check.require(asked.device.index() < count && count > 0,
                  concat("there is no device ", asked.device, ", LibTorch sees ", count,
                         " of that type; use cpu, or a build of LibTorch and a driver for it"));
  }
  check.throw_if_any();
  if (asked.device.is_cuda() && !asked.device.has_index()) {
    asked.device = c10::impl::VirtualGuardImpl(asked.device.type()).getDevice();
  }
  return asked;
}

}  // namespace torch_accelerated
