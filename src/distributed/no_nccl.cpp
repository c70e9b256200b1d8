// SPDX-License-Identifier: Apache-2.0
#include "distributed/nccl_api.h"

namespace torch_accelerated::detail {

std::shared_ptr<NcclApi> make_nccl_api() { return nullptr; }

}  // namespace torch_accelerated::detail
