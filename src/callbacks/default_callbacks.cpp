// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/callbacks/log_metrics.h"
#include "torch_accelerated/callbacks/print_progress.h"
#include "torch_accelerated/callbacks/progress_bar.h"
#include "torch_accelerated/trainer/callback_list.h"

namespace torch_accelerated {

CallbackList default_callbacks() {
  return CallbackList(PrintProgress(), ProgressBar(), LogMetrics());
}

}  // namespace torch_accelerated
