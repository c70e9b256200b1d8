// SPDX-License-Identifier: Apache-2.0
#include "distributed/device_communicator.h"

#include "distributed/nccl_communicator.h"
#include "distributed/staged_communicator.h"

namespace torch_accelerated {

std::unique_ptr<Communicator> make_device_communicator(Communicator& host, c10::Device device,
                                                       bool staged) {
  if (device.is_cpu()) return host.duplicate();
  if (device.is_cuda() && !staged && has_nccl()) return make_nccl_communicator(host, device);
  return make_staged_communicator(host.duplicate());
}

}  // namespace torch_accelerated
